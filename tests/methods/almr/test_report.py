"""The report of a study whose losses are known; what every page of it must say."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from methods.almr.surfaces import LRS, RATIOS, A, B
from running import board

from zoo.errors import InputError
from zoo.methods.almr import report as report_module
from zoo.methods.almr import token_findings
from zoo.methods.almr.findings import compare, transferred
from zoo.methods.almr.mixture_laws import JointLaw
from zoo.methods.almr.plots import figures, pareto_front
from zoo.methods.almr.report import ALMRReport
from zoo.study import StudyCell, StudyResults

RATIO, LR, SEED = "data.ratio", "model.optimizer.lr", "seed_everything"
BASE = {"added": 4.0, "original": 2.5}
STEPS = (100, 200, 400, 800, 1600)


def losses(ratio: float, lr: float, steps: int = 1600) -> tuple[float, float]:
    """L_add falls and L_orig rises with the ratio; both best on ln eta = A + B ln r."""
    off = 0.0 if ratio in (0.0, 1.0) else 0.1 * (math.log(lr) - A - B * math.log(ratio)) ** 2
    fall = (steps / 1600.0) ** -0.4
    added = 4.0 if ratio == 0.0 else 2.8 + 0.6 * fall - 0.9 * ratio**0.5
    return added + off, 2.45 + 0.01 * fall + 0.4 * ratio**1.5 + off


def results(noise: float = 0.0, ratios: tuple[float, ...] = (0.0, *RATIOS, 1.0)) -> StudyResults:
    """The grid with both controls, and a second seed at the centre."""
    rng = np.random.default_rng(0)
    cells = []
    for ratio, lr, seed in [(r, lr, 0) for r in ratios for lr in LRS] + [(0.5, LRS[4], 1)]:
        curve = np.array([losses(ratio, lr, steps) for steps in STEPS])
        curve = curve + noise * rng.normal(size=curve.shape)
        curves = {
            name: list(zip(STEPS, column.tolist(), strict=True))
            for name, column in zip(BASE, curve.T, strict=True)
        }
        last = {name: pairs[-1][1] for name, pairs in curves.items()}
        cells.append(StudyCell({RATIO: ratio, LR: lr, SEED: seed}, last, curves))
    return StudyResults(tuple(cells), BASE)


def best_ratio() -> float:
    """r* by hand: the smallest J on the line among the grid's ratios."""
    on_line = {r: losses(r, math.exp(A + B * math.log(r))) for r in RATIOS}
    return min(on_line, key=lambda r: sum(on_line[r]))


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


@pytest.mark.fidelity("almr", 7)
def test_a_larger_model_gets_a_lower_rate() -> None:
    """kappa eta and its halves and doubles; a kappa that does not lower is refused."""
    assert transferred(3e-4, 0.5) == pytest.approx(
        {"kappa / 2": 7.5e-5, "kappa": 1.5e-4, "2 kappa": 3e-4}
    )
    for kappa in (0.0, 1.0, 2.0):
        with pytest.raises(InputError, match="kappa"):
            transferred(3e-4, kappa)


@pytest.mark.fidelity("almr", 9)
def test_the_report_is_labelled_as_ours(tmp_path: Path) -> None:
    """The page, every picture's title, and the same in TensorBoard."""
    report = ALMRReport(
        RATIO, tolerance=0.1, tokens_per_step=4096, constant_lr=True, parameters=10**6
    )
    page, *pictures = report.write(results(0.005), tmp_path)
    text = page.read_text()
    assert "our own runs. None is the paper's" in text
    assert f"r\\* = {best_ratio():g}" in text
    for word in ("95 % interval", "Critical mixture ratio", "L_added(D) =", "Joint law", "kappa"):
        assert word in text
    assert "not fitted" not in text
    kept = report.findings(results(0.005)).constrained
    assert kept is not None
    chosen = f"Constrained choice (least L_add with L_orig - L_orig0 <= 0.1): r = {kept.ratio:g}, "
    assert chosen in text
    assert all(path.stat().st_size > 1000 and path.name in text for path in pictures)
    written = board(tmp_path / "report")
    assert len(written.Tags()["images"]) == len(pictures) == 3
    assert written.Tags()["tensors"] == ["report/text_summary"]
    from zoo.methods.almr import plots

    found = report.findings(results())
    for figure in plots.figures(found).values():
        assert "our runs, not the paper's" in figure.axes[0].get_title()


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


def by_label(figure: Any) -> dict[str, Any]:
    """The lines of a figure by what its legend calls them."""
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def test_figures_show_the_numbers_of_the_findings() -> None:
    """Dots are the runs, curves the fits, the star what is chosen, the black line the front."""
    found = ALMRReport(RATIO).findings(results(0.02))
    drawn = figures(found)
    assert list(drawn) == ["loss_surface", "optimal_line", "pareto"]
    first = found.optimum.parabolas[0]
    lines = drawn["loss_surface"].axes[0].get_lines()
    assert len(lines) == 2 * len(RATIOS)
    assert lines[0].get_label() == f"r = {first.ratio:g}"
    own = {run.lr: found.objective(run) for run in found.runs if run.ratio == first.ratio}
    assert lines[0].get_xdata().tolist() == sorted(own) == sorted(LRS)
    assert lines[0].get_ydata().tolist() == [own[lr] for lr in sorted(own)]
    x, y = lines[1].get_data()
    assert (x.min(), x.max()) == pytest.approx(
        tuple(np.exp([first.log_lr.min(), first.log_lr.max()]))
    )
    assert y == pytest.approx([first.at(math.log(lr)) for lr in x])
    assert [lines[i].get_color() for i in (0, 1)] == ["C0", "C0"]
    shown, optimum = by_label(drawn["optimal_line"]), found.optimum
    vertices = [math.exp(fit.vertex) for fit in optimum.parabolas]
    at, rates = shown["vertex of a parabola"].get_data()
    assert (tuple(at), tuple(rates)) == (RATIOS, pytest.approx(vertices))
    r, lr = shown[f"ln eta* = a + b f(r), f = {optimum.line.form}"].get_data()
    assert (r[0], r[-1]) == (RATIOS[0], RATIOS[-1])
    assert lr == pytest.approx([optimum.line.lr(ratio) for ratio in r])
    assert shown["chosen"].get_xydata().tolist() == [[optimum.ratio, optimum.lr]]
    edges = drawn["optimal_line"].axes[0].collections[0].get_paths()[0].vertices
    for ratio in RATIOS:
        low, high = optimum.intervals[f"log_lr@{ratio:g}"]
        band = sorted({y for x, y in edges if x == ratio})
        assert np.log(band) == pytest.approx([low, high])
    axes = drawn["pareto"].axes[0]
    lines = axes.get_lines()
    assert [line.get_label() for line in lines[:8]] == [f"r = {r:g}" for r in (0, *RATIOS, 1)]
    points = [tuple(point) for line in lines[:8] for point in line.get_xydata()]
    assert sorted(points) == sorted((run.original, run.added) for run in found.runs)
    front = [[run.original, run.added] for run in pareto_front(found)]
    assert lines[8].get_xydata().tolist() == front
    assert lines[9].get_xydata().tolist() == [[2.5, 4.0]]
    scales = [(f.axes[0].get_xscale(), f.axes[0].get_yscale()) for f in drawn.values()]
    assert scales == [("log", "linear"), ("linear", "log"), ("linear", "linear")]


def test_a_rejected_parabola_is_dotted_and_no_vertex() -> None:
    """In the table it has a reason and no learning rate."""
    made = results()
    bent = [
        replace(cell, measures={**cell.measures, "added": -3 * cell.measures["added"]})
        if cell.settings[RATIO] == RATIOS[1]
        else cell
        for cell in made.cells
    ]
    report = ALMRReport(RATIO)
    found = report.findings(replace(made, cells=tuple(bent)))
    drawn = figures(found)
    styles = [line.get_linestyle() for line in drawn["loss_surface"].axes[0].get_lines()[1::2]]
    assert styles == ["-", ":", "-", "-", "-", "-"]
    shown = by_label(drawn["optimal_line"])["vertex of a parabola"]
    assert shown.get_xdata().tolist() == [r for r in RATIOS if r != RATIOS[1]]
    fit = found.optimum.parabolas[1]
    row = f"| {fit.ratio:g} | - | - | {fit.curvature:.3g} | the loss is not convex in ln eta |"
    assert row in report.lines(found)


def test_ratios_stand_in_order_whatever_the_order_of_the_runs() -> None:
    made = results()
    found = ALMRReport(RATIO).findings(replace(made, cells=made.cells[::-1]))
    assert [fit.ratio for fit in found.optimum.parabolas] == list(RATIOS)
    assert list(found.optimum.intervals)[2:] == [f"log_lr@{r:g}" for r in RATIOS]


def test_the_page_holds_the_numbers_of_the_findings() -> None:
    """J and the losses before, rates of a larger model, every parabola, line and direction."""
    report = ALMRReport(RATIO, weight=0.3, tolerance=0.2, kappa=0.25)
    found = report.findings(results(0.02))
    page, best = "\n".join(report.lines(found)), found.optimum
    assert "J = 0.3 (L_add - L_add0) + 0.7 (L_orig - L_orig0)" in page
    assert "L_add0 = 4.0000, \nL_orig0 = 2.5000 nats per token. 65 runs." in page
    rates = [f"{share * best.lr:.3g}" for share in (0.125, 0.25, 0.5)]
    assert "kappa / 2 {}, kappa {}, 2 kappa {}.".format(*rates) in page
    assert f"between repeats of a cell: {found.noise:.2g}." in page
    for fit in best.parabolas:
        rate, curve = math.exp(fit.vertex), fit.coefficients[0]
        lowest = f"{fit.at(fit.vertex):.4f}"
        assert f"| {fit.ratio:g} | {rate:.3g} | {lowest} | {curve:.3g} | |" in page
    for name, value in (("a", best.line.a), ("b", best.line.b)):
        low, high = best.intervals[name]
        assert f"\n{name} = {value:.3f}, 95 % interval {low:.3f} to {high:.3f}." in page
    for row in found.directions:
        assert f"| {row.lr:.3g} | {row.added:.0%} | {row.original:.0%} |" in page
    front = found.runs and pareto_front(found)[0]
    assert f"r = {front.ratio:g}, learning rate {front.lr:.3g} (L_add {front.added:.4f}" in page
    assert f"At r = 0, L_add moves by at most {found.drift:.4f} nats per token." in page
    assert "The laws of tokens are not fitted" in page


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


def test_the_page_says_what_is_missing() -> None:
    """No repeats, no control, nothing within the tolerance, a curve that is none."""
    made = results(ratios=RATIOS[1:])
    report = ALMRReport(RATIO, tolerance=0.0)
    page = "\n".join(report.lines(report.findings(replace(made, cells=made.cells[:-1]))))
    for said in (
        *("No cell has repeats", "There is no control at r = 0", "no run keeps to L_orig"),
        "Critical mixture ratio: 0.",
    ):
        assert said in page
    three = results(ratios=RATIOS[:3])
    page = "\n".join(report.lines(report.findings(replace(three, cells=three.cells[:-1]))))
    assert "Critical mixture ratio: not fitted (critical ratio: 4 different points" in page
