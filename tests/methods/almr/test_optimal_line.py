"""The optimal line on surfaces whose coefficients are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from methods.almr.surfaces import FORMS, LRS, RATIOS, A, B, grid, loss

from zoo.errors import InputError
from zoo.methods.almr.optimal_line import (
    Point,
    choose_ratio,
    find_optimum,
    fit_line,
    fit_parabola,
)


@pytest.mark.fidelity("almr", 5)
@pytest.mark.parametrize("form", FORMS)
def test_known_coefficients_come_back(form: str) -> None:
    """Without noise: a, b, the form by leave-one-out, r* and its learning rate."""
    found = find_optimum(grid(0.0, form=form), draws=10)
    assert found.line.form == form
    assert (found.line.a, found.line.b) == pytest.approx((A, B), abs=1e-6)
    assert found.ratio == 0.5
    assert found.lr == pytest.approx(math.exp(A + B * FORMS[form](0.5)))


@pytest.mark.fidelity("almr", 5)
@pytest.mark.parametrize("form", FORMS)
def test_the_line_lies_within_its_interval(form: str) -> None:
    """Of 100 noisy surfaces, a, b and the line at both ends lie in theirs at least 90 times."""
    truth = {"a": A, "b": B} | {f"log_lr@{r:g}": A + B * FORMS[form](r) for r in (0.1, 0.8)}
    hits = dict.fromkeys(truth, 0)
    for seed in range(100):
        found = find_optimum(grid(0.01, seed, form), form=form, draws=400, seed=seed)
        for name, value in truth.items():
            low, high = found.intervals[name]
            hits[name] += low <= value <= high
    assert all(90 <= n <= 99 for n in hits.values()), hits  # nor so wide that all lie within


@pytest.mark.fidelity("almr", 4)
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (lambda x: -((x - math.log(3e-4)) ** 2), "not convex"),
        (lambda x: (x - math.log(3e-2)) ** 2, "outside the grid"),
        (lambda x: (x - math.log(3e-7)) ** 2, "outside the grid"),
        (lambda x: (x - math.log(3e-4)) ** 2, ""),
    ],
)
def test_a_vertex_is_rejected_unless_convex_and_interior(values, reason: str) -> None:
    fit = fit_parabola([Point(0.5, lr, values(math.log(lr))) for lr in LRS])
    assert reason in fit.rejected
    assert bool(fit.rejected) == bool(reason)


@pytest.mark.fidelity("almr", 4)
def test_a_rejected_ratio_has_no_part_in_the_line() -> None:
    """Its vertex lies outside the grid and its losses are the lowest of all: it stays out."""
    good = [fit_parabola([Point(r, lr, loss(r, lr)) for lr in LRS]) for r in RATIOS]
    outside = [Point(0.95, lr, -99.0 + (math.log(lr) - math.log(3e-1)) ** 2) for lr in LRS]
    rejected = fit_parabola(outside)
    assert rejected.rejected
    alone, beside = fit_line(good), fit_line([*good, rejected])
    assert (beside.form, beside.a, beside.b) == (alone.form, alone.a, alone.b)
    assert choose_ratio([*good, rejected], beside) == choose_ratio(good, alone) != 0.95


def test_far_points_have_no_part_in_a_parabola() -> None:
    """A loss that diverges at a learning rate more than 4 times the best moves nothing."""
    runs = [Point(0.5, lr, loss(0.5, lr)) for lr in LRS]
    wild = [Point(0.5, 3e-3 * 10, 1e4)]
    assert fit_parabola(runs + wild).vertex == pytest.approx(fit_parabola(runs).vertex)
    assert np.exp(np.ptp(fit_parabola(runs).log_lr)) <= 16.0 + 1e-6


def test_seeds_at_one_cell_are_runs_of_their_own() -> None:
    doubled = grid(0.01, 1) + grid(0.01, 2)
    single = find_optimum(grid(0.01, 1), form="log")
    both = find_optimum(doubled, form="log")
    width = [f.intervals["b"][1] - f.intervals["b"][0] for f in (single, both)]
    assert width[1] < width[0]


@pytest.mark.fidelity("almr", 4)
def test_a_best_rate_at_the_edge_of_a_coarse_grid_is_rejected() -> None:
    """Factor 3 between rates: 2 of them are within a factor of 4 of the edge. No other fit ends."""
    rates = [1e-4, 3e-4, 9e-4, 2.7e-3]
    edge = fit_parabola([Point(0.95, lr, math.log(lr)) for lr in rates])
    assert edge.rejected == "fewer than 3 learning rates within a factor of 4 of the best one"
    assert np.isnan(edge.coefficients).all()
    points = [p for p in grid(0.01) if 0.0 < p.ratio < 1.0]
    beside = find_optimum([*points, *(Point(0.95, lr, math.log(lr)) for lr in rates)], draws=10)
    assert beside.line == find_optimum(points, draws=10).line
    assert [p.ratio for p in beside.parabolas if p.rejected] == [0.95]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_run_that_diverged_has_no_part_in_a_parabola(value: float) -> None:
    runs = [Point(0.5, lr, loss(0.5, lr)) for lr in LRS]
    diverged = [Point(0.5, lr, value) for lr in (LRS[4], 3e-2)]
    assert fit_parabola(runs + diverged).vertex == pytest.approx(fit_parabola(runs).vertex)
    assert fit_parabola(diverged).rejected


def test_too_little_to_fit_is_an_error() -> None:
    two = [fit_parabola([Point(r, lr, loss(r, lr)) for lr in LRS]) for r in RATIOS[:2]]
    with pytest.raises(InputError, match="needs 3 ratios with a vertex, there are 2"):
        fit_line(two)
