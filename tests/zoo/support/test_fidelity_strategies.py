"""Scores of predicted strategies in emotional support: accuracy, F1, preferences and bias."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from zoo.support.labels import STRATEGIES
from zoo.support.strategy_metrics import (
    accuracy,
    bias,
    count_pairs,
    f1,
    preferences,
    proficiency,
    weighted_f1,
)

GOLD_BY_PREDICTED = np.array(
    [
        [5, 1, 1, 1, 2, 1, 0, 1],
        [1, 3, 1, 0, 2, 1, 0, 1],
        [1, 1, 4, 0, 2, 1, 0, 1],
        [1, 0, 1, 3, 2, 1, 1, 1],
        [1, 0, 1, 1, 6, 1, 0, 1],
        [1, 1, 0, 1, 2, 5, 1, 0],
        [1, 0, 0, 1, 2, 2, 2, 1],
        [1, 1, 0, 0, 2, 1, 0, 4],
    ],
    dtype=float,
)
PREFERENCES = (0.978006, 0.777622, 0.767185, 0.553687, 2.288894, 1.115856, 0.299508, 1.219240)


def pairs_of(counts: np.ndarray) -> tuple[list[str], list[str]]:
    """Return the gold and predicted names that a table counts."""
    cells = [(g, p) for g in range(8) for p in range(8) for _ in range(int(counts[g, p]))]
    return [STRATEGIES[g] for g, _ in cells], [STRATEGIES[p] for _, p in cells]


def bradley_terry(counts: Sequence[Sequence[float]], sweeps: int = 20) -> list[float]:
    """Plain transcription of the reference's update, without any guard."""
    size = len(counts)
    wins = [[counts[j][i] if i != j else 0.0 for j in range(size)] for i in range(size)]
    p = [1.0] * size
    for _ in range(sweeps):
        for i in range(size):
            rest = [j for j in range(size) if j != i]
            over = sum(wins[i][j] * p[j] / (p[i] + p[j]) for j in rest)
            under = sum(wins[j][i] / (p[i] + p[j]) for j in rest)
            p[i] = over / under
        positive = [math.log(x) for x in p if x > 0]
        mean = math.exp(sum(positive) / len(positive))
        p = [x / mean for x in p]
    return [size * x / sum(p) for x in p]


# -- 1: the test vector ------------------------------------------------------------------------


@pytest.mark.fidelity("esc_metrics", 1)
def test_the_vector_of_the_definitions() -> None:
    """Acc, Q, weighted F1, p and B of the published table to 1e-6."""
    counts = count_pairs(*pairs_of(GOLD_BY_PREDICTED))
    assert np.array_equal(counts, GOLD_BY_PREDICTED)
    assert preferences(counts) == pytest.approx(PREFERENCES, abs=1e-6)
    assert bias(counts) == pytest.approx(0.560888, abs=1e-6)
    assert proficiency(counts) == pytest.approx(0.390195, abs=1e-6)
    assert weighted_f1(counts) == pytest.approx(0.391962, abs=1e-6)
    assert accuracy(counts) == pytest.approx(0.395062, abs=1e-6)
    assert preferences(counts) == pytest.approx(bradley_terry(counts.tolist()), abs=1e-12)


@pytest.mark.fidelity("esc_metrics", 1)
def test_identity_predictions_are_perfect() -> None:
    """Acc = Q = 1, and no preference."""
    counts = count_pairs(STRATEGIES, STRATEGIES)
    assert (accuracy(counts), proficiency(counts), bias(counts)) == (1, 1, 0)


@pytest.mark.fidelity("esc_metrics", 1)
def test_scores_equal_an_independent_library() -> None:
    """Acc, macro-F1 and weighted F1 are scikit-learn's over all eight classes."""
    rng = random.Random(1)
    for _ in range(5):
        gold = rng.choices(STRATEGIES, weights=range(1, 9), k=60)
        found = [g if rng.random() < 0.4 else rng.choice(STRATEGIES[:6]) for g in gold]
        counts = count_pairs(gold, found)
        options: dict[str, Any] = {"labels": STRATEGIES, "zero_division": 0.0}
        assert accuracy(counts) == pytest.approx(accuracy_score(gold, found))
        macro = f1_score(gold, found, average="macro", **options)
        assert proficiency(counts) == pytest.approx(macro)
        weighted = f1_score(gold, found, average="weighted", **options)
        assert weighted_f1(counts) == pytest.approx(weighted)


# -- 2: extreme predictors ---------------------------------------------------------------------


@pytest.mark.fidelity("esc_metrics", 2)
def test_a_random_predictor_has_no_preference() -> None:
    """20,000 uniform predictions of uniform gold give B < 0.05."""
    rng = random.Random(0)
    gold, found = (rng.choices(STRATEGIES, k=20000) for _ in range(2))
    assert 0 < bias(count_pairs(gold, found)) < 0.05


@pytest.mark.fidelity("esc_metrics", 2)
@pytest.mark.parametrize("only", range(8))
def test_a_predictor_of_one_strategy_has_the_largest_preference(only: int) -> None:
    """B = sqrt 7 to 1e-4, whichever the strategy is."""
    rng = random.Random(only)
    gold = [*STRATEGIES, *rng.choices(STRATEGIES, k=200)]
    counts = count_pairs(gold, [STRATEGIES[only]] * len(gold))
    assert bias(counts) == pytest.approx(math.sqrt(7), abs=1e-4)


@pytest.mark.fidelity("esc_metrics", 2)
def test_the_guard_leaves_the_reference_alone() -> None:
    """One strategy never predicted: the guarded B is the unguarded reference's to 1e-6."""
    counts = GOLD_BY_PREDICTED * 40
    counts[:, 6] = 0
    reference = bradley_terry(counts.tolist())
    assert reference[6] == 0
    assert preferences(counts) == pytest.approx(reference, abs=1e-6)


@pytest.mark.fidelity("esc_metrics", 2)
def test_no_table_gives_a_nan_or_an_exception() -> None:
    """Sparse, empty, diagonal, one-cell and one-sided tables, 600 of them at once."""
    rng = np.random.default_rng(0)
    tables = [rng.poisson(rate, (100, 8, 8)).astype(float) for rate in (0.02, 0.1, 0.5, 3.0)]
    special = [np.zeros((8, 8)), np.eye(8), np.triu(np.ones((8, 8))), np.ones((8, 8))]
    for g, p in rng.integers(0, 8, (40, 2)):
        special.append(np.zeros((8, 8)))
        special[-1][g, p] = 1e6
    blocks = [np.kron(np.eye(2), rng.integers(1, 50, (4, 4))) for _ in range(20)]
    everything = np.concatenate([*tables, np.stack([*special, *blocks])])
    with np.errstate(all="raise", under="ignore"):
        for score in (accuracy, proficiency, weighted_f1, bias):
            values = score(everything)
            assert np.isfinite(values).all()
        assert (bias(everything) <= math.sqrt(7) + 1e-9).all()
        alone = [float(bias(table)) for table in everything[::37]]
    assert bias(everything)[::37].tolist() == pytest.approx(alone)  # side by side as one by one


# -- 3: order of the strategies ----------------------------------------------------------------


@pytest.mark.fidelity("esc_metrics", 3)
def test_the_order_of_the_strategies_does_not_matter() -> None:
    """Acc and Q stay exactly, B to 1e-6."""
    rng = np.random.default_rng(3)
    dense = [rng.integers(0, 20, (8, 8)).astype(float) for _ in range(6)]
    missing = dense[0].copy()
    missing[:, 3] = 0
    for counts in (GOLD_BY_PREDICTED, missing, *dense):
        for _ in range(4):
            order = rng.permutation(8)
            moved = counts[np.ix_(order, order)]
            assert accuracy(moved) == accuracy(counts)
            assert proficiency(moved) == pytest.approx(proficiency(counts), abs=1e-15)
            assert bias(moved) == pytest.approx(bias(counts), abs=1e-6)


@pytest.mark.fidelity("esc_metrics", 3)
def test_one_sided_confusions_need_more_sweeps() -> None:
    """Where 20 sweeps stop short, B does know the order: a little, and less with every sweep."""
    rng = np.random.default_rng(0)
    tables = [
        rng.poisson(np.outer(rng.random(8) * 20, rng.dirichlet(np.ones(8) / 2))) for _ in range(60)
    ]
    order = rng.permutation(8)
    counts = np.stack(tables).astype(float)
    moved = counts[:, order][:, :, order]
    few, many = (np.abs(bias(counts, n) - bias(moved, n)) for n in (20, 400))
    assert 1e-6 < many.max() < few.max() < 0.02
    # powers of the confusions: is every strategy confused with every other in the end?
    joined = np.linalg.matrix_power(((counts > 0) | np.eye(8, dtype=bool)).astype(int), 8).all(
        (1, 2)
    )
    assert 0 < joined.sum() < 60
    assert many[joined].max() < 1e-6


# -- 5: absent classes -------------------------------------------------------------------------


@pytest.mark.fidelity("esc_metrics", 5)
def test_macro_f1_counts_classes_that_gold_lacks() -> None:
    """Two classes in gold, both always right: Q is 2/8, not 1."""
    gold = ["Question", "Others"] * 5
    counts = count_pairs(gold, gold)
    assert proficiency(counts) == pytest.approx(2 / 8)
    assert weighted_f1(counts) == 1
    assert f1(counts).tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
