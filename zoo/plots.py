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


def risk_coverage_plot(curves: Mapping[str, Sequence[tuple[float, float]]]) -> Any:
    """Return the share of wrong answers over the share of questions answered, a line per score.

    Args:
        curves: Name of a score -> (answer rate, risk) in ascending order of the rate.
    """
    figure = new_figure(5.0, 3.6)
    axes = figure.subplots()
    for name, points in curves.items():
        rates, risks = zip(*points, strict=True)
        axes.step(rates, risks, where="post", label=name, marker="." if len(points) < 3 else "")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="answer rate", ylabel="share of wrong answers")
    axes.legend(fontsize=7)
    return figure


def shaded_answers(rows: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> Any:
    """Return answers whose tokens stand on a background from green (no doubt) to red (1).

    Args:
        rows: A question and the tokens of its answer, each with the doubt about it in [0, 1].
    """
    from matplotlib import colormaps

    figure = new_figure(8.0, 0.4 + 0.5 * len(rows))
    axes = figure.subplots()
    axes.set(xlim=(0, 100), ylim=(-len(rows), 0))
    axes.axis("off")
    ramp = colormaps["RdYlGn_r"]
    for i, (question, tokens) in enumerate(rows):
        words = " ".join(question.split())
        text = words if len(words) <= 90 else words[:87] + "..."
        axes.text(0, -i - 0.25, text.replace("$", r"\$"), fontsize=7, color="grey")
        column = 2.0
        for token, doubt in tokens:
            shown = "".join(c if c.isprintable() else "?" for c in token).replace("$", r"\$")
            box = {"facecolor": ramp(0.15 + 0.7 * doubt), "edgecolor": "none", "pad": 1.5}
            axes.text(column, -i - 0.7, shown, family="monospace", fontsize=8, bbox=box)
            column += 1.25 * max(
                1, len(token)
            )  # characters of this size, in hundredths of 8 inches
            if column > 98:
                break
    axes.set_title("answers, each token on its skepticism", fontsize=9, loc="left")
    return figure


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
