"""Scores of label paths: each level, and the joint path."""

from __future__ import annotations

from collections.abc import Sequence

Path = Sequence[str]
FAILED = "?"
"""Stands in a predicted path where the decoded text was no class."""


def path_scores(predicted: Sequence[Path], gold: Sequence[Path]) -> dict[str, float]:
    """Return accuracy per level and, over the joint path, accuracy, micro-F1 and macro-F1.

    A path is right if every level is. Macro-F1 is the unweighted mean over the paths that occur in
    `gold`; a failed prediction (`FAILED`) is a miss of its gold path and of no other.

    Args:
        predicted: A path per record.
        gold: The right path per record, as long.

    Example:
        >>> scores = path_scores([("a", "x"), ("a", "y")], [("a", "x"), ("b", "y")])
        >>> scores["joint_accuracy"], scores["level_1_accuracy"], scores["level_2_accuracy"]
        (0.5, 0.5, 1.0)
    """
    from sklearn.metrics import f1_score

    depth = len(gold[0])
    scores = {
        f"level_{i + 1}_accuracy": sum(p[i] == g[i] for p, g in zip(predicted, gold, strict=True))
        / len(gold)
        for i in range(depth)
    }
    joint_predicted, joint_gold = (
        ["\t".join(path) for path in paths] for paths in (predicted, gold)
    )
    right = sum(p == g for p, g in zip(joint_predicted, joint_gold, strict=True))
    labels = sorted(set(joint_gold))
    macro = f1_score(joint_gold, joint_predicted, labels=labels, average="macro", zero_division=0.0)
    every = sorted(set(joint_gold) | set(joint_predicted))
    micro = f1_score(joint_gold, joint_predicted, labels=every, average="micro")
    failed = sum(FAILED in path for path in predicted)
    return {
        **scores,
        "joint_accuracy": right / len(gold),
        "joint_micro_f1": float(micro),
        "joint_macro_f1": float(macro),
        "failed": failed / len(gold),
    }


def confusion(
    predicted: Sequence[str], gold: Sequence[str], names: Sequence[str]
) -> list[list[int]]:
    """Return counts, a row per gold name and a column per predicted one; the last is `FAILED`."""
    place = {name: i for i, name in enumerate(names)}
    table = [[0] * (len(names) + 1) for _ in names]
    for p, g in zip(predicted, gold, strict=True):
        table[place[g]][place.get(p, len(names))] += 1
    return table
