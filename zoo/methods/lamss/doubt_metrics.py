"""Metric classes of answers given with doubt; the formulas are in `metrics`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.methods.lamss.metrics import risk_coverage, selective_scores
from zoo.metrics.records import RecordMetric


class SelectiveMetric(RecordMetric):
    """Base of scores of answers that are given with doubt."""

    def update(
        self, skepticism: Sequence[float], right: Sequence[bool], ids: Sequence[str] | None = None
    ) -> None:
        """Add answers.

        Args:
            skepticism: U of each answer, in [0, 1].
            right: Whether each answer is right.
            ids: Names of the questions; one that comes twice counts once.
        """
        self.keep([list(pair) for pair in zip(skepticism, right, strict=True)], ids)

    def answers(self) -> tuple[list[float], list[bool]]:
        """Return the skepticism of every answer, and whether it is right."""
        rows = self.kept()
        return [u for u, _ in rows], [right for _, right in rows]


class SelectiveScores(SelectiveMetric):
    """`auc`, `ap`, `ece`, and accuracy and rate of willing answers; see `selective_scores`.

    Args:
        eps: Answers with a skepticism below it are given willingly.
        options: Of `torchmetrics.Metric`.
    """

    def __init__(self, eps: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self.eps = eps

    def compute(self) -> dict[str, float]:
        """Return the scores by name; nothing without answers."""
        skepticism, right = self.answers()
        return selective_scores(skepticism, right, self.eps) if right else {}


class RiskCoverage(SelectiveMetric):
    """The risk-coverage curve; see `risk_coverage`. torchmetrics has none."""

    def compute(self) -> list[tuple[float, float]]:
        """Return the points; none without answers."""
        skepticism, right = self.answers()
        return risk_coverage(skepticism, right) if right else []


class DoubtScores(RecordMetric):
    """Scores of answers with several skepticisms, the first of which decides.

    Args:
        eps: Threshold of every skepticism but the first.
        threshold: Of the first; None for `eps`.
        options: Of `torchmetrics.Metric`.
    """

    def __init__(self, eps: float = 0.5, threshold: float | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.eps, self.threshold = eps, eps if threshold is None else threshold

    def update(
        self,
        skepticism: Sequence[Mapping[str, float]],
        right: Sequence[bool],
        kinds: Sequence[str],
        counts: Sequence[Mapping[str, float]],
        ids: Sequence[str] | None = None,
    ) -> None:
        """Add answers.

        Args:
            skepticism: U by name, in [0, 1], of each answer; the same names for all.
            right: Whether each answer is right.
            kinds: Kind of each question; empty for none.
            counts: Other numbers of each answer by name; the same names for all.
            ids: Names of the questions; one that comes twice counts once.
        """
        rows = zip(skepticism, right, kinds, counts, strict=True)
        self.keep([[dict(u), correct, kind, dict(n)] for u, correct, kind, n in rows], ids)

    def compute(self) -> dict[str, float]:
        """Return the selective scores of the first skepticism, of others as `SCORE_NAME`.

        With `accuracy` and `skepticism` (also as `accuracy_KIND`), `threshold` and mean counts;
        nothing without answers.
        """
        rows = self.kept()
        if not rows:
            return {}
        doubts, right, kinds, counts = zip(*rows, strict=True)
        scores = {"threshold": self.threshold}
        for i, name in enumerate(doubts[0]):
            values = [skepticism[name] for skepticism in doubts]
            selective = selective_scores(values, right, self.eps if i else self.threshold)
            scores |= {f"{score}_{name}" if i else score: v for score, v in selective.items()}
        deciding = [next(iter(skepticism.values())) for skepticism in doubts]
        for kind, (accuracy, doubt) in by_kind(kinds, right, deciding).items():
            suffix = f"_{kind}" if kind else ""
            scores |= {f"accuracy{suffix}": accuracy, f"skepticism{suffix}": doubt}
        return scores | {name: sum(n[name] for n in counts) / len(rows) for name in counts[0]}


def by_kind(
    kinds: Sequence[str], right: Sequence[bool], skepticism: Sequence[float]
) -> dict[str, tuple[float, float]]:
    """Return accuracy and mean skepticism by kind of question, "" for all."""
    answers = list(zip(kinds, right, skepticism, strict=True))
    means = {}
    for kind in sorted({"", *kinds}):
        chosen = [(correct, u) for name, correct, u in answers if name == kind or not kind]
        accuracy = sum(correct for correct, _ in chosen) / len(chosen)
        means[kind] = accuracy, sum(u for _, u in chosen) / len(chosen)
    return means
