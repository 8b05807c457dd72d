"""The page and the figures of a study's report: its labels, numbers, curves, what is missing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from methods.almr.known_losses import LR, RATIO, best_ratio, results
from methods.almr.surfaces import LRS, RATIOS
from running import board

from zoo.methods.almr.plots import figures, pareto_front
from zoo.methods.almr.report import ALMRReport


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


def test_a_ratio_with_too_few_rates_is_shown_and_rejected(tmp_path: Path) -> None:
    """Its best rate is the lowest of its two: points without a curve, and a reason."""
    made = results()
    cells = [c for c in made.cells if c.settings[RATIO] != RATIOS[1] or c.settings[LR] in LRS[3:5]]
    report = ALMRReport(RATIO, tokens_per_step=4096, constant_lr=True)
    page, *pictures = report.write(replace(made, cells=tuple(cells)), tmp_path)
    reason = "fewer than 3 learning rates within a factor of 4 of the best one"
    text = page.read_text()
    assert f"| {RATIOS[1]:g} | - | - | - | {reason} |" in text
    assert "nan" not in text
    assert all(path.stat().st_size > 1000 for path in pictures)
    found = report.findings(replace(made, cells=tuple(cells)))
    lines = figures(found)["loss_surface"].axes[0].get_lines()
    assert len(lines) == 2 * len(RATIOS) - 1
    assert sorted(found.optimum.intervals) == sorted(
        ["a", "b", *(f"log_lr@{r:g}" for r in RATIOS if r != RATIOS[1])]
    )


def test_the_page_names_the_cells_that_diverged() -> None:
    report = ALMRReport(RATIO)
    page = report.lines(report.findings(replace(results(), diverged=("lr=0.1", "lr=1"))))
    assert "Left out, for they diverged: lr=0.1; lr=1." in page


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
    rise = max(run.original for run in found.runs if run.ratio == 1) - 2.5
    assert f"At r = 1, L_orig rises by at most {rise:.4f} nats per token." in page
    assert f"learning rate {best.lr:.3g}.**" in page
    constant = "\n".join(ALMRReport(RATIO, constant_lr=True).lines(found))
    assert f"learning rate {best.lr:.3g} (constant after its warm-up).**" in constant
    assert "The laws of tokens are not fitted" in page


def test_the_page_says_what_is_missing() -> None:
    """No repeats, no control, nothing within the tolerance, a curve that is none."""
    made = results(ratios=RATIOS[1:])
    report = ALMRReport(RATIO, tolerance=0.0)
    page = "\n".join(report.lines(report.findings(replace(made, cells=made.cells[:-1]))))
    for said in (
        *("No cell has repeats", "There is no control at r = 0", "no run keeps to L_orig"),
        "There is no control at r = 1",
        "Critical mixture ratio: 0.",
    ):
        assert said in page
    three = results(ratios=RATIOS[:3])
    page = "\n".join(report.lines(report.findings(replace(three, cells=three.cells[:-1]))))
    assert "Critical mixture ratio: not fitted (critical ratio: 4 different points" in page
