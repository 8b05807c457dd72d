"""The findings of a study whose losses are known: what is chosen, counted, fitted and refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from methods.almr.known_losses import BASE, RATIO, STEPS, best_ratio, losses, results
from methods.almr.surfaces import LRS, RATIOS, A, B

from zoo.errors import InputError
from zoo.methods.almr import report as report_module
from zoo.methods.almr import token_findings
from zoo.methods.almr.findings import compare, transferred
from zoo.methods.almr.mixture_laws import JointLaw
from zoo.methods.almr.plots import pareto_front
from zoo.methods.almr.report import ALMRReport
from zoo.study import StudyResults


def test_the_choice_is_that_of_the_surface() -> None:
    found = ALMRReport(RATIO).findings(results())
    assert found.optimum.ratio == best_ratio()
    assert found.optimum.lr == pytest.approx(math.exp(A + B * math.log(best_ratio())))
    run = found.runs[30]
    by_hand = 0.5 * (run.added - 4.0) + 0.5 * (run.original - 2.5)
    assert found.objective(run) == pytest.approx(by_hand)
    only_added = ALMRReport(RATIO, weight=1.0).findings(results())
    assert only_added.optimum.ratio == RATIOS[-1]


def test_the_constrained_choice_keeps_to_the_tolerance() -> None:
    found = ALMRReport(RATIO, tolerance=0.1).findings(results())
    assert found.constrained is not None
    kept = [run for run in found.runs if run.original <= 2.6]
    assert found.constrained.added == min(run.added for run in kept)
    assert found.critical is not None  # where 2.46 + 0.4 r^1.5 = 2.6, within the grid's coarseness
    assert found.critical.ratio == pytest.approx((0.14 / 0.4) ** (1 / 1.5), abs=0.05)
    assert ALMRReport(RATIO, tolerance=0.0).findings(results(ratios=RATIOS[2:])).constrained is None


@pytest.mark.fidelity("almr", 3)
def test_directions_and_drift_are_counted() -> None:
    """L_add falls and L_orig rises along r at every rate; L_add stays at r = 0: so it says."""
    made = results()
    found = ALMRReport(RATIO).findings(made)
    near = [row for row in found.directions if row.lr == LRS[4]]
    by_ratio = [losses(r, LRS[4]) for r in (0.0, *RATIOS, 1.0)]
    falls, rises = np.diff(np.array(by_ratio).T)
    assert (near[0].added, near[0].original) == ((falls < 0).mean(), (rises > 0).mean())
    assert found.drift == pytest.approx(0.0)
    moved = replace(made.cells[0], measures={"added": 4.3, "original": 2.5})
    found = ALMRReport(RATIO).findings(replace(made, cells=(moved, *made.cells[1:])))
    assert found.drift == pytest.approx(0.3)


@pytest.mark.fidelity("almr", 6)
def test_a_probe_is_worse_beyond_the_noise_alone() -> None:
    """Two repeats each, noise s: a difference counts above 2 s sqrt(1/2 + 1/2)."""
    probes = {"eta x 4": [0.31, 0.29], "eta / 4": [0.21, 0.21], "ratio 0.33": [0.1, 0.2]}
    found = {probe.name: probe for probe in compare([0.19, 0.21], probes, noise=0.02)}
    assert found["eta x 4"].difference == pytest.approx(0.1)
    assert found["eta x 4"].noise == pytest.approx(0.02)
    assert [found[name].worse for name in probes] == [True, False, False]


@pytest.mark.fidelity("almr", 6)
def test_the_noise_of_a_difference_counts_the_repeats_of_both() -> None:
    """error = s sqrt(1/n + 1/m), by hand: n = 4, m = 1, s = 0.012; the limit is 2 errors.

    1.9 errors above is not worse, 2.1 is; nor is anything below the prediction.
    """
    error = 0.0134164
    probes = {"1.9": [0.2 + 1.9 * error], "2.1": [0.2 + 2.1 * error], "below": [0.2 - 9 * error]}
    found = {probe.name: probe for probe in compare([0.2] * 4, probes, noise=0.012)}
    assert [found[name].worse for name in probes] == [False, True, False]
    assert all(probe.noise == pytest.approx(error, rel=1e-5) for probe in found.values())
    (even,) = compare([0.2] * 4, {"four": [0.2] * 4}, noise=0.012)
    assert even.noise == pytest.approx(0.0084853, rel=1e-5)  # s sqrt(1/4 + 1/4)


@pytest.mark.fidelity("almr", 7)
def test_a_larger_model_gets_a_lower_rate() -> None:
    """kappa eta and its halves and doubles; a kappa that does not lower is refused."""
    assert transferred(3e-4, 0.5) == pytest.approx(
        {"kappa / 2": 7.5e-5, "kappa": 1.5e-4, "2 kappa": 3e-4}
    )
    for kappa in (0.0, 1.0, 2.0):
        with pytest.raises(InputError, match="kappa"):
            transferred(3e-4, kappa)


def test_the_front_holds_what_no_run_beats() -> None:
    found = ALMRReport(RATIO).findings(results(0.02))
    front = pareto_front(found)
    for run in found.runs:
        beaten = any(f.added <= run.added and f.original <= run.original for f in front)
        assert beaten
    assert all(a.added > b.added for a, b in zip(front, front[1:], strict=False))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: ALMRReport("data.rati").findings(results()), "did you mean 'data.ratio'"),
        (lambda: ALMRReport(RATIO, added="add").findings(results()), "did you mean 'added'"),
        (lambda: ALMRReport(RATIO).findings(replace(results(), base={})), "base: true"),
        (lambda: ALMRReport(RATIO).findings(StudyResults((), BASE)), "no finished cell"),
        (lambda: ALMRReport(RATIO, weight=1.5), "report.weight: 1.5 is not between 0 and 1"),
        (lambda: ALMRReport(RATIO, tolerance=-1), "report.tolerance: -1 is below 0"),
        (lambda: ALMRReport(RATIO, kappa=2), "kappa: 2 is not between 0 and 1"),
    ],
)
def test_what_cannot_be_reported_is_named(made, message: str) -> None:
    with pytest.raises(InputError, match=message):
        made()


def test_ratios_stand_in_order_whatever_the_order_of_the_runs() -> None:
    made = results()
    found = ALMRReport(RATIO).findings(replace(made, cells=made.cells[::-1]))
    assert [fit.ratio for fit in found.optimum.parabolas] == list(RATIOS)
    assert list(found.optimum.intervals)[2:] == [f"log_lr@{r:g}" for r in RATIOS]


def test_laws_of_tokens_are_those_of_the_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """L(D) at r* and at the learning rate next to the line, D in tokens and not in steps.

    The joint law gets every ratio at the rate next to the line, and the share of its own corpus.
    """
    given, made = [], JointLaw(np.arange(1.0, 10), 2e6, 0.0123)
    monkeypatch.setattr(
        token_findings, "fit_joint_law", lambda *points: given.append(points) or made
    )
    found = ALMRReport(RATIO).findings(results())
    rates = {
        r: min(LRS, key=lambda lr: abs(math.log(lr) - found.optimum.line.log_lr(r))) for r in RATIOS
    }
    lines = token_findings.token_lines(found, 4096, 7)
    r = found.optimum.ratio
    for i, (name, fall) in enumerate((("added", 0.6), ("original", 0.01))):
        level, size = losses(r, rates[r])[i] - fall, fall * (1600 * 4096) ** 0.4
        assert lines[2 * i] == f"L_{name}(D) = {level:.3f} + {size:.3g} D^-0.400 at r = {r:g}."
        assert lines[2 * i + 1] == (
            f"Joint law: L_{name}(D, s) = 1.000 + 4 s^5 / d^6 + 7 / (s + 8)^9, d = D / 2e+06, "
            "s = share of its tokens; root mean square error 0.012."
        )
        points = {
            (7.0, 4096.0 * steps, (ratio, 1 - ratio)[i], losses(ratio, rates[ratio], steps)[i])
            for ratio in RATIOS
            for steps in STEPS
        }
        assert set(zip(*(column.tolist() for column in given[i]), strict=True)) == points
    token_findings.token_lines(found, 4096, None)
    assert set(given[2][0]) == {1e6}


@pytest.mark.parametrize(
    ("options", "fitted"),
    [({"tokens_per_step": 8}, False), ({"constant_lr": True}, False)]
    + [({"tokens_per_step": 8, "constant_lr": True}, True)],
)
def test_laws_of_tokens_need_a_constant_rate_and_their_number(
    options: dict[str, Any], fitted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "token_lines", lambda *_: ["fitted"])
    page = ALMRReport(RATIO, **options).lines(ALMRReport(RATIO).findings(results()))
    assert ("fitted" in page) is fitted
    assert any("laws of tokens are not fitted: they need" in line for line in page) is not fitted
