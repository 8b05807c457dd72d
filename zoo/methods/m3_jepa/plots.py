"""Figures of M3-JEPA for TensorBoard: experts used, pictures retrieved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.media import thumbnail
from zoo.plots import heat_map, new_figure, shorten
from zoo.records import Media


def gate_usage(counts: Mapping[str, Tensor]) -> Any:
    """Return the share of assignments that each expert gets, a row per direction and branch.

    Args:
        counts: Row -> number of assignments of each expert, `(N,)`.
    """
    names = list(counts)
    table = torch.stack([counts[name].float() / counts[name].sum() for name in names])
    columns = [str(n + 1) for n in range(table.shape[1])]
    return heat_map(table, names, columns, "experts used", "share of assignments")


def picture_grid(rows: Sequence[tuple[str, Sequence[tuple[Media, bool]]]]) -> Any:
    """Return the pictures found for each text, best first; the right ones are framed in green.

    Args:
        rows: A text with its pictures, each with whether it is right.
    """
    columns = max(len(pictures) for _, pictures in rows)
    figure = new_figure(1.3 * columns + 2.2, 1.45 * len(rows))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for (text, pictures), line in zip(rows, grid, strict=True):
        for axes, (media, right) in zip(line, pictures, strict=True):
            axes.imshow(thumbnail(media))
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set(color="tab:green" if right else "lightgrey", linewidth=4 if right else 1)
        line[0].set_ylabel(shorten(text, 40), rotation=0, ha="right", va="center", fontsize=8)
    return figure
