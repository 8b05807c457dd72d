"""How well beliefs are inferred: accuracy, plain and balanced, and weighted F1 of each factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_f1_score

from zoo.methods.dreamcub.belief import Belief, Factor
from zoo.metrics.records import RecordMetric


class BeliefScores(RecordMetric):
    """Accuracy, balanced accuracy and weighted F1 of beliefs; what is not annotated is left out.

    The balanced accuracy is the mean over a factor's labels, those that occur, of the share of
    their states that is found: a rule that always says one of K labels has 1 / K.

    Args:
        factors: What a belief consists of.
        options: Of `torchmetrics.Metric`.
    """

    def __init__(self, factors: Sequence[Factor], **options: Any) -> None:
        super().__init__(**options)
        self.factors = tuple(factors)

    def update(
        self, gold: Sequence[Belief], found: Sequence[Belief], ids: Sequence[str] | None = None
    ) -> None:
        """Add beliefs with those of the data, empty where there is none."""
        self.keep([[list(a), list(b)] for a, b in zip(gold, found, strict=True)], ids)

    def compute(self) -> dict[str, float]:
        """Return `FACTOR_belief_accuracy`, `_balanced` and `_f1`, 0 to 1; nothing without gold."""
        scores: dict[str, float] = {}
        for i, factor in enumerate(self.factors):
            pairs = [(gold[i], found[i]) for gold, found in self.kept() if gold[i] and found[i]]
            if not pairs:
                continue
            gold, found = (
                torch.tensor([factor.labels.index(x) for x in side])
                for side in zip(*pairs, strict=True)
            )
            right = (gold == found).float()
            scores[f"{factor.name}_belief_accuracy"] = float(right.mean())
            shares = [right[gold == label].mean() for label in gold.unique()]
            scores[f"{factor.name}_belief_balanced"] = float(torch.stack(shares).mean())
            f1 = multiclass_f1_score(found, gold, len(factor.labels), average="weighted")
            scores[f"{factor.name}_belief_f1"] = float(f1)
        return scores


def confusion(factor: Factor, pairs: Sequence[tuple[str, str]]) -> Tensor:
    """Return how often each label (row) was taken for each (column), `(K, K)`."""
    counts = torch.zeros(len(factor.labels), len(factor.labels))
    for gold, found in pairs:
        counts[factor.labels.index(gold), factor.labels.index(found)] += 1
    return counts
