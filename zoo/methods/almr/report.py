"""The report of a study: Markdown, plots, and the same for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.methods.almr.findings import Findings, Run, find, runs_of, transferred
from zoo.methods.almr.plots import figures, pareto_front
from zoo.methods.almr.token_findings import token_lines
from zoo.study import StudyReport, StudyResults

OURS = (
    "All numbers of this page are those of our own runs. None is the paper's: neither its grid nor "
    "its fit nor its losses are known to us."
)


class ALMRReport(StudyReport):
    """Fits the optimal line to a study of ratio and learning rate, and says what to train with.

    Args:
        ratio: Varied key that holds r, the share of added-language tokens, 0 to 1.
        lr: Varied key that holds eta, the peak learning rate.
        added: Measure L_add, nats per token.
        original: Measure L_orig, nats per token.
        weight: w: weight of the added language in J; the other language has 1 - w.
        tolerance: delta: how much L_orig may rise, nats per token.
        kappa: Learning rate of a larger model over that of this one, 0 to 1; the published peaks of
            Llama-3 70B and 8B give 0.5.
        form: f of the optimal line: `log`, `linear` or `logit`; None for leave-one-out.
        tokens_per_step: Of one optimiser step; with it the laws of tokens are fitted.
        constant_lr: The learning rate is constant after its warm-up, so that the validations of a
            run are comparable; without it the laws of tokens are not fitted.
        parameters: Of the model; for the joint law.
    """

    def __init__(
        self,
        ratio: str,
        lr: str = "model.optimizer.lr",
        added: str = "added",
        original: str = "original",
        weight: float = 0.5,
        tolerance: float = 0.05,
        kappa: float = 0.5,
        form: str | None = None,
        tokens_per_step: int | None = None,
        constant_lr: bool = False,
        parameters: int | None = None,
    ) -> None:
        if not 0.0 <= weight <= 1.0:
            raise InputError(f"report.weight: {weight:g} is not between 0 and 1")
        if tolerance < 0.0:
            raise InputError(f"report.tolerance: {tolerance:g} is below 0")
        transferred(1.0, kappa)
        self.keys = {"ratio": ratio, "lr": lr, "added": added, "original": original}
        self.weight, self.tolerance, self.kappa, self.form = weight, tolerance, kappa, form
        self.tokens_per_step, self.constant_lr = tokens_per_step, constant_lr
        self.parameters = parameters

    def findings(self, results: StudyResults) -> Findings:
        """Return the fits."""
        runs, base = runs_of(results, **self.keys)
        found = find(runs, base, self.weight, self.tolerance, self.form)
        return replace(found, diverged=results.diverged)

    def write(self, results: StudyResults, folder: Path) -> list[Path]:
        """Write `report.md`, a picture a figure, and a TensorBoard run `report`."""
        found = self.findings(results)
        drawn = figures(found)
        text = "\n".join([*self.lines(found), ""])
        page = folder / "report.md"
        page.write_text(text, "utf-8")
        paths = [folder / f"{name}.png" for name in drawn]
        for path, figure in zip(paths, drawn.values(), strict=True):
            figure.savefig(path, dpi=120)
        _to_board(folder / "report", text, drawn)
        return [page, *paths]

    def lines(self, found: Findings) -> list[str]:
        """Return the lines of the page."""
        tokens = [
            "The laws of tokens are not fitted: they need losses at one phase of the learning"
            " rate (`constant_lr: true`) and `tokens_per_step`."
        ]
        if self.constant_lr and self.tokens_per_step:
            tokens = token_lines(found, self.tokens_per_step, self.parameters)
        return [
            "# Ratio of added tokens and learning rate",
            "",
            OURS,
            "",
            *self._chosen(found),
            "",
            "## Parabola per ratio",
            "",
            *_parabolas(found),
            "",
            "![J over the learning rate](loss_surface.png)",
            "",
            "## Optimal line",
            "",
            *_line(found),
            "",
            "![optimal line](optimal_line.png)",
            "",
            "## Added against original loss",
            "",
            *self._pareto(found),
            "",
            "![added against original loss](pareto.png)",
            "",
            "## Along the ratio at one learning rate",
            "",
            *_directions(found),
            "",
            "## Laws of tokens",
            "",
            *tokens,
        ]

    def _chosen(self, found: Findings) -> Iterator[str]:
        w, best = found.weight, found.optimum
        yield f"J = {w:g} (L_add - L_add0) + {1 - w:g} (L_orig - L_orig0), declared beforehand."
        yield f"Before training: L_add0 = {found.base.added:.4f}, "
        yield f"L_orig0 = {found.base.original:.4f} nats per token. {len(found.runs)} runs."
        yield ""
        course = " (constant after its warm-up)" * self.constant_lr
        yield f"**Chosen: r\\* = {best.ratio:g}, learning rate {best.lr:.3g}{course}.**"
        larger = transferred(best.lr, self.kappa)
        tried = ", ".join(f"{name} {lr:.3g}" for name, lr in larger.items())
        yield f"For a larger model keep r\\* and try (kappa = {self.kappa:g}): {tried}."
        if found.noise is None:
            yield "No cell has repeats, so the noise between seeds is not known."
        else:
            yield f"Standard deviation of J between repeats of a cell: {found.noise:.2g}."
        if found.diverged:
            yield f"Left out, for they diverged: {'; '.join(found.diverged)}."

    def _pareto(self, found: Findings) -> Iterator[str]:
        limit = f"L_orig - L_orig0 <= {self.tolerance:g}"
        run = found.constrained
        if run is None:
            yield f"Constrained choice: no run keeps to {limit}."
        else:
            yield f"Constrained choice (least L_add with {limit}): {_named(run)}."
        if found.critical is None:
            yield f"Critical mixture ratio: not fitted ({found.critical_problem})."
        else:
            yield f"Critical mixture ratio: {found.critical.ratio:.3f}" + _within(
                found.critical.interval
            )
        front = "; ".join(_named(run) for run in pareto_front(found))
        yield f"Runs that no other beats in both losses: {front}."


def _named(run: Run) -> str:
    return (
        f"r = {run.ratio:g}, learning rate {run.lr:.3g} "
        f"(L_add {run.added:.4f}, L_orig {run.original:.4f})"
    )


def _within(bounds: tuple[float, float] | None, digits: int = 3) -> str:
    if bounds is None:
        return ", no interval: as many points as coefficients."
    return f", 95 % interval {bounds[0]:.{digits}f} to {bounds[1]:.{digits}f}."


def _parabolas(found: Findings) -> Iterator[str]:
    yield "| r | best learning rate | J there | curvature | rejected |"
    yield "|---|---|---|---|---|"
    for fit in found.optimum.parabolas:
        curvature = "-" if math.isnan(fit.curvature) else f"{fit.curvature:.3g}"
        if fit.rejected:
            yield f"| {fit.ratio:g} | - | - | {curvature} | {fit.rejected} |"
        else:
            best = math.exp(fit.vertex)
            yield f"| {fit.ratio:g} | {best:.3g} | {fit.best:.4f} | {curvature} | |"


def _line(found: Findings) -> Iterator[str]:
    best, line = found.optimum, found.optimum.line
    errors = ", ".join(f"{name} {error:.3f}" for name, error in line.left_out.items())
    yield f"ln eta\\* = a + b f(r) with f = {line.form}; leave-one-out errors in ln eta: {errors}."
    for name, value in (("a", line.a), ("b", line.b)):
        yield f"{name} = {value:.3f}" + _within(best.intervals.get(name))


def _directions(found: Findings) -> Iterator[str]:
    yield "| learning rate | steps of r at which L_add falls | at which L_orig rises |"
    yield "|---|---|---|"
    for row in found.directions:
        yield f"| {row.lr:.3g} | {row.added:.0%} | {row.original:.0%} |"
    yield ""
    if found.drift is None:
        yield "There is no control at r = 0."
    else:
        yield f"At r = 0, L_add moves by at most {found.drift:.4f} nats per token."
    if found.forgetting is None:
        yield "There is no control at r = 1."
    else:
        yield f"At r = 1, L_orig rises by at most {found.forgetting:.4f} nats per token."


def _to_board(folder: Path, text: str, drawn: dict[str, Any]) -> None:
    """Write the page and the figures for TensorBoard; an older report there is replaced."""
    from torch.utils.tensorboard import SummaryWriter

    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(folder)) as board:
        board.add_text("report", text)
        for name, figure in drawn.items():
            board.add_figure(f"report/{name}", figure)
