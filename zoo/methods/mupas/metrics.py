"""How well next speakers are named, beside rules without a model, and how even a talk is.

The first turn of a scene is not counted. Who spoke last is no candidate, since neighbouring turns
of one speaker are one turn: with two people the next one is certain. So every score is given twice,
the second time over the scenes in which at least three people speak (`_3plus`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_f1_score

from zoo.methods.mupas.speaker_rules import RULES
from zoo.metrics.records import RecordMetric, number
from zoo.records import Role, Scene, Turn


class SpeakerScores(RecordMetric):
    """Accuracy, mean reciprocal rank and macro-F1 of next speakers, and the accuracy of each rule.

    Macro-F1 is that of torchmetrics, its classes the names that were said or expected anywhere.

    torchmetrics' retrieval metrics take one list of scores a query; here the candidates change from
    turn to turn, and the rules stand beside the model on the same turns.
    """

    def update(
        self,
        scenes: Sequence[Scene],
        chances: Sequence[Sequence[Mapping[str, float]]],
        ids: Sequence[str] | None = None,
    ) -> None:
        """Keep who spoke, and what was expected.

        Args:
            scenes: Scenes whose neighbouring turns have different speakers.
            chances: For each scene and each of its turns but the first, a number for every name;
                only their order counts.
            ids: Names of the scenes; one that comes twice counts once.
        """
        rows = [
            {"names": scene.names, "said": [t.speaker for t in scene.turns], "chances": list(c)}
            for scene, c in zip(scenes, chances, strict=True)
        ]
        self.keep(rows, ids)

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name; NaN over no turns."""
        rows = self.kept()
        few = [row for row in rows if len(set(row["said"])) >= 3]
        return {**_scores(rows, ""), **_scores(few, "_3plus")}


def _scores(rows: Sequence[dict[str, Any]], end: str) -> dict[str, Tensor]:
    """Return the scores of some scenes, the names with an ending."""
    found: dict[str, list[float]] = {
        name: [] for name in ("speaker_accuracy", "speaker_mrr", *(f"rule_{r}" for r in RULES))
    }
    said, expected = list[str](), list[str]()
    for row in rows:
        scene = Scene(
            tuple(Role(name) for name in row["names"]),
            tuple(Turn(name, "") for name in row["said"]),
        )
        for turn, chances in enumerate(row["chances"], start=1):
            right, last = row["said"][turn], row["said"][turn - 1]
            others = {name: chance for name, chance in chances.items() if name != last}
            said.append(right)
            expected.append(max(others, key=others.__getitem__))
            hit, reciprocal = placed(others, right)
            found["speaker_accuracy"].append(hit)
            found["speaker_mrr"].append(reciprocal)
            for name, rule in RULES.items():
                found[f"rule_{name}"].append(rule(scene, turn).get(right, 0.0))
    means = {name: sum(v) / len(v) if v else math.nan for name, v in found.items()}
    means["speaker_macro_f1"] = macro_f1(said, expected)
    return {name + end: number(value) for name, value in means.items()}


def macro_f1(said: Sequence[str], expected: Sequence[str]) -> float:
    """Return the mean over names of F1; NaN without turns.

    Example:
        >>> macro_f1(["Ann", "Bob", "Bob"], ["Ann", "Ann", "Bob"])
        0.6666666865348816
    """
    if not said:
        return math.nan
    names = sorted({*said, *expected})
    real, guessed = (torch.tensor([names.index(n) for n in side]) for side in (said, expected))
    return float(multiclass_f1_score(guessed, real, num_classes=max(2, len(names))))


def placed(chances: Mapping[str, float], right: str) -> tuple[float, float]:
    """Return whether the right name is first, and 1 / its rank.

    Names with equal chances share their ranks: a hit among them counts in part.

    Example:
        >>> placed({"Ann": 0.5, "Bob": 0.3, "Cy": 0.2}, "Bob")
        (0.0, 0.5)
        >>> placed({"Ann": 0.5, "Bob": 0.5}, "Bob")[0]
        0.5
    """
    mine = chances[right]
    better = sum(chance > mine for chance in chances.values())
    equal = sum(chance == mine for chance in chances.values())  # itself among them
    ranks = range(better + 1, better + equal + 1)
    return (0.0 if better else 1 / equal), sum(1 / rank for rank in ranks) / equal


def evenness(speakers: Sequence[str], names: Sequence[str]) -> float:
    """Return the entropy of the shares of turns over its largest value: 1 where all speak alike.

    Example:
        >>> evenness(["Ann", "Bob"], ["Ann", "Bob"]), evenness(["Ann", "Ann"], ["Ann", "Bob"])
        (1.0, 0.0)
    """
    if len(names) < 2 or not speakers:
        return 0.0
    shares = [count / len(speakers) for count in Counter(speakers).values()]
    entropy = sum(share * math.log(1 / share) for share in shares)
    return entropy / math.log(len(names))


def repetition(texts: Sequence[str]) -> float:
    """Return the share of texts that were said before, letter for letter but for case.

    Example:
        >>> round(repetition(["No.", "Yes.", "no."]), 4)
        0.3333
    """
    lowered = [" ".join(text.lower().split()) for text in texts]
    return 1 - len(set(lowered)) / len(lowered) if lowered else 0.0
