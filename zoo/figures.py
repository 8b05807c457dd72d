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
    values: Tensor, rows: Sequence[str], columns: Sequence[str], title: str, label: str
) -> Any:
    """Return a heat map with the values written in.

    Args:
        values: `(len(rows), len(columns))`.
        rows: Names of the rows.
        columns: Names of the columns.
        title: What is shown.
        label: Unit of the colour bar.
    """
    figure = new_figure(2.5 + 0.55 * len(columns), 1.2 + 0.4 * len(rows))
    axes = figure.subplots()
    shown = axes.imshow(values.numpy(), aspect="auto", vmin=0)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_title(title)
    middle = float(values.max()) / 2
    for i, row in enumerate(values.tolist()):
        for j, value in enumerate(row):
            colour = "black" if value > middle else "white"
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7)
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


def score_histogram(positives: Sequence[float], negatives: Sequence[float]) -> Any:
    """Return how the scores of relevant and of other documents are distributed.

    Args:
        positives: Scores of relevant documents.
        negatives: Scores of the others.
    """
    figure = new_figure(5, 3)
    axes = figure.subplots()
    lowest, highest = min([*positives, *negatives]), max([*positives, *negatives])
    for values, label in ((negatives, "others"), (positives, "relevant")):
        if values:
            shares = [1 / len(values)] * len(values)
            axes.hist(
                values,
                bins=40,
                range=(lowest, highest),
                weights=shares,
                alpha=0.6,
                label=f"{label} ({len(values)})",
            )
    axes.set_xlabel("score")
    axes.set_ylabel("share of the documents")
    axes.legend()
    return figure


def recall_curves(curves: Mapping[str, Sequence[float]]) -> Any:
    """Return recall over the number of documents looked at, on a logarithmic axis.

    Args:
        curves: Ranker -> mean recall at 1, 2, ...
    """
    figure = new_figure(5, 3)
    axes = figure.subplots()
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), list(values), label=name, marker=".", markersize=3)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("k")
    axes.set_ylabel("recall at k")
    axes.legend()
    return figure


def value_bars(rows: Sequence[tuple[str, Sequence[float], str]], names: Sequence[str]) -> Any:
    """Return a bar per option for each state; the best one is filled, the right one is framed.

    Args:
        rows: A state's title, the value of each option, and the name of the right option.
        names: The options.
    """
    figure = new_figure(4.2, 1.9 * len(rows))
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
        axes.set_title(" ".join(title.split())[:60], fontsize=8)
    return figure
