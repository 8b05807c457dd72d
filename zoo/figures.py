"""Figures for TensorBoard, drawn with matplotlib (imported where used)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from zoo.media import thumbnail
from zoo.records import Media


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure that no window system knows of; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def heat_map(
    values: Tensor,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    label: str,
    *,
    low: float | None = 0.0,
    digits: int = 2,
) -> Any:
    """Return a heat map with the values written in.

    Args:
        values: `(len(rows), len(columns))`.
        rows: Names of the rows.
        columns: Names of the columns.
        title: What is shown.
        label: Unit of the colour bar.
        low: Where the colours start; None for the least value.
        digits: Digits after the point.
    """
    figure = new_figure(2.5 + 0.55 * len(columns), 1.2 + 0.4 * len(rows))
    axes = figure.subplots()
    shown = axes.imshow(values.numpy(), aspect="auto", vmin=low)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_title(title)
    middle = (float(values.max()) + (float(values.min()) if low is None else low)) / 2
    for i, row in enumerate(values.tolist()):
        for j, value in enumerate(row):
            colour = "black" if value > middle else "white"
            axes.text(
                j, i, f"{value:.{digits}f}", ha="center", va="center", color=colour, fontsize=7
            )
    figure.colorbar(shown, label=label)
    return figure


def gate_usage(counts: Mapping[str, Tensor]) -> Any:
    """Return the share of assignments that each expert gets, a row per direction and branch.

    Args:
        counts: Row -> number of assignments of each expert, `(N,)`.
    """
    import torch

    names = list(counts)
    table = torch.stack([counts[name].float() / counts[name].sum() for name in names])
    columns = [str(n + 1) for n in range(table.shape[1])]
    return heat_map(table, names, columns, "experts used", "share of assignments")


def picture_grid(rows: Sequence[tuple[str, Sequence[tuple[Media, bool]]]]) -> Any:
    """Return the pictures found for each text, best first; the right ones are framed in green.

    Args:
        rows: A text with its pictures, each with whether it is right.
    """
    columns = max(len(found) for _, found in rows)
    figure = new_figure(1.3 * columns + 2.2, 1.45 * len(rows))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for (text, found), line in zip(rows, grid, strict=True):
        for axes, (media, right) in zip(line, found, strict=True):
            axes.imshow(thumbnail(media))
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set(color="tab:green" if right else "lightgrey", linewidth=4 if right else 1)
        line[0].set_ylabel(text[:40], rotation=0, ha="right", va="center", fontsize=8)
    return figure
