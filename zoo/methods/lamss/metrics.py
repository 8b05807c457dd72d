"""Scores of answers given with doubt: who is right when willing to answer?

Every function takes a skepticism U in [0, 1] per question (higher is more doubtful) and whether its
answer was right. A question is answered *willingly* where U < eps. Ties are kept together: no score
depends on the order of questions with equal U. At least one question is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_calibration_error,
)

EVERYTHING = math.nextafter(1.0, 2.0)
"""The eps that answers every question, also those with U = 1."""


class Willing(NamedTuple):
    """What is answered at a threshold.

    Attributes:
        accuracy: Share of right answers among those given; 0 if none is given.
        rate: Share of questions that are answered.
    """

    accuracy: float
    rate: float


class Step(NamedTuple):
    """Questions of equal skepticism: the value, how many there are and how many are right."""

    value: float
    total: int
    right: int


def steps(skepticism: Sequence[float], right: Sequence[bool]) -> list[Step]:
    """Return the distinct values of U in ascending order with their counts.

    Raises:
        ValueError: There is no question, the lengths differ, or a U is not in [0, 1].
    """
    if not skepticism or len(skepticism) != len(right):
        raise ValueError(f"{len(skepticism)} skepticisms for {len(right)} answers")
    if not all(0 <= u <= 1 for u in skepticism):  # a NaN too
        bad = next(u for u in skepticism if not 0 <= u <= 1)
        raise ValueError(f"a skepticism is {bad}, not in [0, 1]")
    pairs = sorted(zip(skepticism, right, strict=True), key=lambda pair: pair[0])
    ascending = []
    for value, group in groupby(pairs, key=lambda pair: pair[0]):
        answers = [bool(answer) for _, answer in group]
        ascending.append(Step(value, len(answers), sum(answers)))
    return ascending


def willing(skepticism: Sequence[float], right: Sequence[bool], eps: float) -> Willing:
    """Return accuracy and answer rate over the questions with U < eps.

    Example:
        >>> willing([0.1, 0.4, 0.6, 0.9], [True, False, True, False], eps=0.5)
        Willing(accuracy=0.5, rate=0.5)
    """
    given = [step for step in steps(skepticism, right) if step.value < eps]
    total = sum(step.total for step in given)
    accuracy = sum(step.right for step in given) / total if total else 0.0
    return Willing(accuracy, total / len(right))


def accuracy_at_rate(skepticism: Sequence[float], right: Sequence[bool], rate: float) -> float:
    """Return the accuracy over the least doubtful share of the questions.

    At least one question is answered. Of those that tie at the border only a part is: it counts
    with the mean of the tie.

    Args:
        skepticism: U of each question.
        right: Whether each answer is right.
        rate: Share of questions to answer, in (0, 1].

    Example:
        >>> accuracy_at_rate([0.1, 0.5, 0.5, 0.9], [True, True, False, False], 0.5)
        0.75
    """
    wanted = max(1, round(rate * len(right)))
    left, hits = wanted, 0.0
    for step in steps(skepticism, right):
        taken = min(left, step.total)
        hits += taken * step.right / step.total
        left -= taken
    return hits / wanted


def auc(skepticism: Sequence[float], right: Sequence[bool]) -> float:
    """Return the area under the ROC curve of -U against correctness.

    The chance that a right answer has less U than a wrong one; a tie counts half. 0.5 if all
    answers are right or all are wrong, where torchmetrics says 0: there is nothing to tell apart.

    Example:
        >>> auc([0.1, 0.2, 0.2], [True, True, False])
        0.75
    """
    confidence, correct = _order(skepticism, right)
    hits = int(correct.sum())
    units = 2 * hits * (len(right) - hits)
    if not units:
        return 0.5
    area = float(binary_auroc(confidence, correct))
    return round(area * units) / units  # a multiple of 1 / units; torchmetrics counts in float32


def average_precision(skepticism: Sequence[float], right: Sequence[bool]) -> float:
    """Return the area under the precision-recall steps of the ranking by -U, right is positive.

    AP = sum_n (R_n - R_n-1) P_n over the distinct values. 0 if no answer is right, where
    torchmetrics warns.

    Example:
        >>> round(average_precision([0.1, 0.2, 0.3], [True, False, True]), 3)
        0.833
    """
    order = _order(skepticism, right)
    return float(binary_average_precision(*order)) if any(right) else 0.0


def calibration_error(skepticism: Sequence[float], right: Sequence[bool]) -> float:
    """Return the expected calibration error of the confidence 1 - U.

    sum_b n_b / n * |accuracy_b - mean confidence_b| over ten bins of equal width.
    """
    confidence, correct = _confidence(skepticism, right)
    return float(binary_calibration_error(confidence, correct, n_bins=10))


def _confidence(skepticism: Sequence[float], right: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """Return 1 - U in double precision, and correctness."""
    steps(skepticism, right)  # refuses what is no skepticism
    return 1 - torch.tensor(skepticism, dtype=torch.float64), torch.tensor(right).int()


def _order(skepticism: Sequence[float], right: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """Return confidences in the order of -U, and correctness.

    They are ranks in [0, 1): two tiny U that differ would be equal as 1 - U.
    """
    confidence, correct = _confidence(skepticism, right)
    _, ranks = torch.tensor(skepticism, dtype=torch.float64).unique(return_inverse=True)
    return (1 - (ranks + 1) / len(confidence)).double(), correct


def risk_coverage(skepticism: Sequence[float], right: Sequence[bool]) -> list[tuple[float, float]]:
    """Return (answer rate, share of wrong answers among those given), the least doubtful first.

    One point for every distinct U; the last one is (1, 1 - accuracy).
    """
    points, seen, above = [], 0, 0
    for step in steps(skepticism, right):
        seen, above = seen + step.total, above + step.right
        points.append((seen / len(right), 1 - above / seen))
    return points


def tuned_threshold(skepticism: Sequence[float], right: Sequence[bool]) -> float:
    """Return the eps that tells right from wrong answers best on these questions.

    It maximises the share of right answers given minus the share of wrong ones given (Youden's J),
    which does not depend on how many are right. Among equals the largest answer rate wins. Between
    two values of U it lies in the middle; it is 0 for none and `EVERYTHING` for all. If all answers
    are right everything is answered, if all are wrong nothing is.
    """
    ascending = steps(skepticism, right)
    hits = sum(step.right for step in ascending)
    misses = len(right) - hits
    best, threshold, given, wrong = 0.0, 0.0, 0, 0
    for i, step in enumerate(ascending):
        given, wrong = given + step.right, wrong + step.total - step.right
        value = given / max(1, hits) - wrong / max(1, misses)
        if value >= best and (hits or not misses):
            best, threshold = value, _between(ascending, i)
    return threshold


def _between(ascending: Sequence[Step], i: int) -> float:
    if i + 1 == len(ascending):
        return EVERYTHING
    low, high = ascending[i].value, ascending[i + 1].value
    middle = (low + high) / 2
    return middle if middle > low else high


def selective_scores(
    skepticism: Sequence[float], right: Sequence[bool], eps: float
) -> dict[str, float]:
    """Return all scores at one threshold, by name."""
    at_eps = willing(skepticism, right, eps)
    return {
        "auc": auc(skepticism, right),
        "ap": average_precision(skepticism, right),
        "willing_accuracy": at_eps.accuracy,
        "answer_rate": at_eps.rate,
        "ece": calibration_error(skepticism, right),
    }
