"""Figures of a study: loss surface, optimal line, added against original loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zoo.methods.almr.findings import Findings, Run
from zoo.plots import new_figure

OURS = "our runs, not the paper's"


def figures(found: Findings) -> dict[str, Any]:
    """Return the matplotlib figures of a study, by name."""
    return {
        "loss_surface": loss_surface(found),
        "optimal_line": optimal_line(found),
        "pareto": pareto(found),
    }


def loss_surface(found: Findings) -> Any:
    """Return J over the learning rate, a curve and its parabola a ratio."""
    figure = new_figure(6.0, 4.0)
    axes = figure.subplots()
    for i, fit in enumerate(found.optimum.parabolas):
        runs = sorted((r for r in found.runs if r.ratio == fit.ratio), key=lambda r: r.lr)
        values = [found.objective(run) for run in runs]
        axes.plot([run.lr for run in runs], values, "o", color=f"C{i}", label=f"r = {fit.ratio:g}")
        if not np.isfinite(fit.coefficients).all():
            continue  # too few runs for a parabola
        x = np.linspace(fit.log_lr.min(), fit.log_lr.max(), 50)
        style = ":" if fit.rejected else "-"
        axes.plot(np.exp(x), np.polyval(fit.coefficients, x), style, color=f"C{i}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="J, nats per token")
    axes.set_title(f"Objective J ({OURS})")
    axes.legend(fontsize=8)
    return figure


def optimal_line(found: Findings) -> Any:
    """Return the best learning rate of each ratio, and the line with its 95 % interval."""
    figure = new_figure(6.0, 4.0)
    axes = figure.subplots()
    optimum = found.optimum
    kept = [fit for fit in optimum.parabolas if not fit.rejected]
    ratios = [fit.ratio for fit in kept]
    axes.plot(ratios, [math.exp(fit.vertex) for fit in kept], "o", label="vertex of a parabola")
    fine = np.linspace(min(ratios), max(ratios), 100)
    name = f"ln eta* = a + b f(r), f = {optimum.line.form}"
    axes.plot(fine, [optimum.line.lr(r) for r in fine], "-", label=name)
    bounds = [optimum.intervals.get(f"log_lr@{r:g}") for r in ratios]
    if all(bound is not None for bound in bounds):
        low, high = np.exp(np.array(bounds, dtype=float)).T
        axes.fill_between(ratios, low, high, alpha=0.2, label="95 % interval")
    axes.plot([optimum.ratio], [optimum.lr], "*", markersize=14, label="chosen")
    axes.set(yscale="log", xlabel="ratio of added tokens", ylabel="learning rate")
    axes.set_title(f"Optimal line ({OURS})")
    axes.legend(fontsize=8)
    return figure


def pareto(found: Findings) -> Any:
    """Return added against original loss, the runs that no other beats in both joined."""
    figure = new_figure(6.0, 4.0)
    axes = figure.subplots()
    for ratio in sorted({run.ratio for run in found.runs}):
        runs = [run for run in found.runs if run.ratio == ratio]
        axes.plot([r.original for r in runs], [r.added for r in runs], "o", label=f"r = {ratio:g}")
    front = pareto_front(found)
    axes.plot([r.original for r in front], [r.added for r in front], "k-", linewidth=1)
    axes.plot([found.base.original], [found.base.added], "kx", label="before")
    axes.set(xlabel="original loss, nats per token", ylabel="added loss, nats per token")
    axes.set_title(f"What one language costs the other ({OURS})")
    axes.legend(fontsize=8)
    return figure


def pareto_front(found: Findings) -> list[Run]:
    """Return the runs that no other run equals or beats in both losses, by original loss."""
    front: list[Run] = []
    for run in sorted(found.runs, key=lambda run: (run.original, run.added)):
        if not front or run.added < front[-1].added:
            front.append(run)
    return front
