"""Figure of straQ* for TensorBoard: the value of every strategy in some states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.plots import new_figure, shorten


def value_bars(rows: Sequence[tuple[str, Sequence[float], str]], names: Sequence[str]) -> Any:
    """Return a bar per option for each state; the best one is filled, the right one is framed.

    Args:
        rows: A state's title, the value of each option, and the name of the right option.
        names: The options.
    """
    figure = new_figure(6.0, 1.9 * len(rows))
    for axes, (title, values, gold) in zip(
        figure.subplots(len(rows), squeeze=False)[:, 0], rows, strict=True
    ):
        best = max(range(len(values)), key=values.__getitem__)
        bars = axes.barh(range(len(names)), list(values), color="lightgrey")
        bars[best].set_color("tab:blue")
        if gold in names:
            bars[list(names).index(gold)].set(edgecolor="tab:green", linewidth=2)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.invert_yaxis()
        low, high = min(values), max(values)
        axes.set_xlim(low - 0.1 * (high - low) - 1e-6, high + 0.1 * (high - low) + 1e-6)
        axes.set_title(shorten(title, 60), fontsize=8)
    return figure
