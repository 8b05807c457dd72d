"""Scores of label paths: each level, and the joint path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torchmetrics.functional.classification import multiclass_f1_score

from zoo.metrics.records import RecordMetric
from zoo.metrics.text import distinct
from zoo.metrics.text_metrics import TextMetric
from zoo.support.cider import CiderWeights

Path = Sequence[str]
FAILED = "?"
"""Stands in a predicted path where the decoded text was no class."""


def path_scores(predicted: Sequence[Path], gold: Sequence[Path]) -> dict[str, float]:
    """Return accuracy and macro-F1 per level; over the joint path these and micro-F1.

    A path is right if every level is. Of one path per record micro-F1 is the accuracy. Macro-F1:
    see `macro_f1`; a level's names count by themselves, whatever their parents.

    Args:
        predicted: A path per record.
        gold: The right path per record, as long.

    Example:
        >>> scores = path_scores([("a", "x"), ("a", "y")], [("a", "x"), ("b", "y")])
        >>> scores["joint_accuracy"], scores["level_1_accuracy"], scores["level_2_accuracy"]
        (0.5, 0.5, 1.0)
    """
    pairs = [(tuple(p), tuple(g)) for p, g in zip(predicted, gold, strict=True)]
    scores = {}
    for i in range(len(gold[0])):
        level = [(p[i], g[i]) for p, g in pairs]
        scores[f"level_{i + 1}_accuracy"] = sum(p == g for p, g in level) / len(level)
        scores[f"level_{i + 1}_macro_f1"] = macro_f1(level)
    right = sum(p == g for p, g in pairs) / len(pairs)
    return {
        **scores,
        "joint_accuracy": right,
        "joint_micro_f1": right,
        "joint_macro_f1": macro_f1(pairs),
        "failed": sum(FAILED in p for p, _ in pairs) / len(pairs),
    }


def macro_f1(pairs: Sequence[tuple[Any, Any]]) -> float:
    """Return the unweighted mean of F1 over the classes that occur in the gold.

    Any other prediction, such as `FAILED`, is a miss of its gold class and of no other.
    (torchmetrics' own macro mean also counts classes that are predicted and never right.)

    Args:
        pairs: (predicted, gold) of each record, at least one.

    Example:
        >>> macro_f1([("a", "a"), ("a", "a"), ("?", "c")])
        0.5
    """
    place = {name: i for i, name in enumerate(sorted({gold for _, gold in pairs}))}
    size = len(place)  # the number of all that gold lacks
    predictions, wanted = torch.tensor([(place.get(p, size), place[g]) for p, g in pairs]).t()
    each = multiclass_f1_score(predictions, wanted, num_classes=size + 1, average="none")
    return float(each[:size].double().mean())


class PathScores(RecordMetric):
    """Accuracy of each level and of the joint path, and F1 over joint paths; see `path_scores`."""

    def update(
        self, predicted: Sequence[Path], gold: Sequence[Path], ids: Sequence[str] | None = None
    ) -> None:
        """Add paths; of those with one id the first."""
        self.keep([[list(p), list(g)] for p, g in zip(predicted, gold, strict=True)], ids)

    def compute(self) -> dict[str, float]:
        """Return the scores by name; nothing without paths."""
        pairs = self.kept()
        return path_scores([p for p, _ in pairs], [g for _, g in pairs]) if pairs else {}


class DialogueReplies(TextMetric):
    """Dist-2 and CIDEr of replies to dialogues, in percent: the paper's scores of generation."""

    def compute(self) -> dict[str, float]:
        """Return `dist_2` and `cider`; nothing without replies."""
        pairs = self.kept()
        if not pairs:
            return {}
        weights = CiderWeights([reference for reference, _ in pairs])
        return {
            "dist_2": distinct([reply for _, reply in pairs], 2),
            "cider": sum(weights.score(*pair) for pair in pairs) / len(pairs),
        }


def has_letter(answer: str, letter: str) -> bool:
    """Return whether an option's letter stands in an answer as a word of its own.

    The loose accuracy of AQuA. In the released sense, anywhere in the text, "a" is in any sentence.

    Example:
        >>> has_letter("So it is (B).", "B"), has_letter("Because", "B"), has_letter("a box", "A")
        (True, False, False)
    """
    return re.search(rf"\b{re.escape(letter)}\b", answer) is not None


def confusion(
    predicted: Sequence[str], gold: Sequence[str], names: Sequence[str]
) -> list[list[int]]:
    """Return counts, a row per gold name and a column per predicted one; the last is `FAILED`."""
    place = {name: i for i, name in enumerate(names)}
    table = [[0] * (len(names) + 1) for _ in names]
    for p, g in zip(predicted, gold, strict=True):
        table[place[g]][place.get(p, len(names))] += 1
    return table
