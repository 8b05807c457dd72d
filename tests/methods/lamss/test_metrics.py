"""Scores of selective answering, against scikit-learn and against plain loops."""

from __future__ import annotations

import itertools
import math
import random
import warnings

import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from zoo.methods.lamss.metrics import (
    EVERYTHING,
    accuracy_at_rate,
    auc,
    average_precision,
    calibration_error,
    risk_coverage,
    selective_scores,
    tuned_threshold,
    willing,
)

Case = tuple[list[float], list[bool]]


def case(seed: int, size: int, levels: int) -> Case:
    """Return scores on a grid, so that few levels mean many ties."""
    rng = random.Random(seed)
    doubts = [rng.randrange(levels + 1) / levels for _ in range(size)]
    right = [rng.random() > 0.7 * u for u in doubts]
    right[:2] = [True, False]  # both classes occur
    return doubts, right


CASES = [case(seed, 5 + 7 * seed, levels) for seed in range(4) for levels in (1, 2, 5, 10**6)]


@pytest.mark.parametrize(("doubts", "right"), CASES)
def test_ranking_scores_are_those_of_scikit_learn(doubts: list[float], right: list[bool]) -> None:
    confidence = [-u for u in doubts]
    assert auc(doubts, right) == pytest.approx(roc_auc_score(right, confidence), abs=1e-12)
    expected = average_precision_score(right, confidence)
    assert average_precision(doubts, right) == pytest.approx(expected, abs=1e-7)


def test_tiny_doubts_are_told_apart() -> None:
    """As 1 - U both would be 1."""
    assert auc([1e-20, 1e-19], [True, False]) == 1
    assert average_precision([1e-19, 1e-20], [True, False]) == 0.5


@pytest.mark.parametrize(("doubts", "right"), CASES)
def test_nothing_depends_on_the_order(doubts: list[float], right: list[bool]) -> None:
    pairs = list(zip(doubts, right, strict=True))
    random.Random(0).shuffle(pairs)
    mixed = [u for u, _ in pairs], [r for _, r in pairs]
    first, second = (selective_scores(*one, 0.5) for one in ((doubts, right), mixed))
    assert first == pytest.approx(second)
    assert tuned_threshold(doubts, right) == tuned_threshold(*mixed)
    assert accuracy_at_rate(doubts, right, 0.4) == pytest.approx(accuracy_at_rate(*mixed, 0.4))


def test_one_class_only_has_a_value_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for doubts in ([0.2, 0.2, 0.9], [0.5], [0.0, 1.0]):
            good, bad = [True] * len(doubts), [False] * len(doubts)
            assert auc(doubts, good) == auc(doubts, bad) == 0.5
            assert average_precision(doubts, good) == 1.0
            assert average_precision(doubts, bad) == 0.0
            for right in (good, bad):
                values = selective_scores(doubts, right, 0.0)
                assert values["answer_rate"] == values["willing_accuracy"] == 0.0
                assert all(math.isfinite(value) for value in values.values())


@pytest.mark.parametrize(("doubts", "right"), CASES)
def test_threshold_sweep(doubts: list[float], right: list[bool]) -> None:
    """The answer rate never falls as eps grows; eps 0 answers nothing, eps above 1 everything."""
    grid = [0.0, *sorted(set(doubts)), EVERYTHING]
    found = [willing(doubts, right, eps) for eps in grid]
    rates = [one.rate for one in found]
    assert rates == sorted(rates)
    assert rates[0] == 0.0
    assert rates[-1] == 1.0
    assert found[-1].accuracy == pytest.approx(sum(right) / len(right))
    for eps, one in zip(grid, found, strict=True):
        given = [r for u, r in zip(doubts, right, strict=True) if u < eps]
        assert one.rate == len(given) / len(right)
        assert one.accuracy == (sum(given) / len(given) if given else 0.0)


def test_the_threshold_itself_is_not_answered() -> None:
    assert willing([0.5, 0.4], [True, True], 0.5).rate == 0.5
    assert willing([1.0], [True], 1.0).rate == 0.0
    assert EVERYTHING > 1.0


@pytest.mark.parametrize("rate", [0.01, 0.25, 0.5, 0.75, 1.0])
def test_accuracy_at_a_rate_is_the_mean_over_orders_of_ties(rate: float) -> None:
    doubts, right = [0.3, 0.1, 0.3, 0.3, 0.9, 0.3], [True, False, True, False, True, False]
    count = max(1, round(rate * len(doubts)))
    values = []
    for order in itertools.permutations(range(len(doubts))):
        ranked = sorted(order, key=lambda i: doubts[i])  # stable: ties keep this order
        values.append(sum(right[i] for i in ranked[:count]) / count)
    assert accuracy_at_rate(doubts, right, rate) == pytest.approx(sum(values) / len(values))


@pytest.mark.parametrize(("doubts", "right"), CASES)
def test_risk_coverage_has_a_point_per_distinct_value(
    doubts: list[float], right: list[bool]
) -> None:
    points = risk_coverage(doubts, right)
    assert len(points) == len(set(doubts))
    for value, (rate, risk) in zip(sorted(set(doubts)), points, strict=True):
        given = [r for u, r in zip(doubts, right, strict=True) if u <= value]
        assert rate == pytest.approx(len(given) / len(right))
        assert risk == pytest.approx(1 - sum(given) / len(given))
    assert points[-1][0] == 1.0


@pytest.mark.parametrize(("doubts", "right"), CASES)
def test_calibration_error_bin_by_bin(doubts: list[float], right: list[bool]) -> None:
    total = 0.0
    for b in range(10):
        inside = [
            (1 - u, r)
            for u, r in zip(doubts, right, strict=True)
            if b / 10 <= 1 - u < (b + 1) / 10 or (b == 9 and u == 0.0)
        ]
        if inside:
            sure = sum(c for c, _ in inside) / len(inside)
            total += len(inside) * abs(sure - sum(r for _, r in inside) / len(inside))
    assert calibration_error(doubts, right) == pytest.approx(total / len(right), abs=1e-9)


def test_calibration_error_by_hand() -> None:
    """Certain and always right: 0. Certain and always wrong: 1."""
    assert calibration_error([0.0, 0.0], [True, True]) == 0.0
    assert calibration_error([0.0, 0.0], [False, False]) == 1.0
    assert calibration_error([1.0, 1.0], [False, False]) == 0.0
    assert calibration_error([0.2] * 4, [True, True, True, False]) == pytest.approx(0.05)


@pytest.mark.parametrize(("doubts", "right"), CASES)
def test_tuned_threshold_is_the_best_of_all(doubts: list[float], right: list[bool]) -> None:
    def youden(eps: float) -> float:
        given = [u < eps for u in doubts]
        hits = sum(g and r for g, r in zip(given, right, strict=True)) / sum(right)
        wrong = sum(g and not r for g, r in zip(given, right, strict=True))
        return hits - wrong / (len(right) - sum(right))

    tuned = tuned_threshold(doubts, right)
    values = sorted(set(doubts))
    middles = [(a + b) / 2 for a, b in itertools.pairwise(values)]
    best = max(youden(eps) for eps in [0.0, *middles, EVERYTHING])
    assert youden(tuned) == pytest.approx(best)
    assert tuned in {0.0, *middles, EVERYTHING}


def test_tuned_threshold_by_hand() -> None:
    assert tuned_threshold([0.1, 0.2, 0.8, 0.9], [True, True, False, False]) == 0.5
    assert tuned_threshold([0.1, 0.9], [True, True]) == EVERYTHING
    assert tuned_threshold([0.1, 0.9], [False, False]) == 0.0
    assert tuned_threshold([0.9, 0.1], [True, False]) == EVERYTHING  # nothing is as good: rate wins
    low, high = 0.5, math.nextafter(0.5, 1.0)
    tuned = tuned_threshold([low, high], [True, False])
    assert low < tuned <= high


@pytest.mark.parametrize(
    ("doubts", "right", "message"),
    [
        ([], [], "0 skepticisms for 0 answers"),
        ([0.1], [True, False], "1 skepticisms for 2 answers"),
        ([0.1, 1.1], [True, False], "a skepticism is 1.1, not in"),
        ([-0.1], [True], "a skepticism is -0.1, not in"),
        ([math.nan], [True], "a skepticism is nan, not in"),
    ],
)
def test_bad_values_are_refused(doubts: list[float], right: list[bool], message: str) -> None:
    for call in (auc, average_precision, calibration_error, tuned_threshold, risk_coverage):
        with pytest.raises(ValueError, match=message):
            call(doubts, right)
    with pytest.raises(ValueError, match=message):
        willing(doubts, right, 0.5)
