"""Heat maps for TensorBoard, drawn with matplotlib (imported where used)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from torch import Tensor

LONGEST_LABEL = 32  # characters; longer names are cut
LABEL_SIZE = 8  # points
CHARACTER = 0.62 * LABEL_SIZE / 72  # inches, of an average character of a label
CELL_WIDTH, CELL_HEIGHT = 0.45, 0.3  # inches, enough for the number in it
WIDEST = 8.0  # inches of columns that are widened so that their names can lie flat


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure that no window system knows of; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def shorten(text: str, length: int = LONGEST_LABEL) -> str:
    """Return a text on one line, cut to a number of characters.

    Example:
        >>> shorten("Reflection of feelings", 13)
        'Reflection...'
    """
    line = " ".join(text.split())
    if len(line) > length:
        line = line[: length - 3].rstrip() + "..."
    return line.replace("$", r"\$")  # a dollar begins a formula in matplotlib


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
    """Return a heat map with the values written in, as large as its names need.

    Args:
        values: `(len(rows), len(columns))`.
        rows: Names of the rows.
        columns: Names of the columns; upright where they are too long to lie beside each other.
        title: What is shown.
        label: Unit of the colour bar.
        low: Where the colours start; None for the least value.
        digits: Digits after the point.
    """
    row_names, column_names = [shorten(n) for n in rows], [shorten(n) for n in columns]
    longest = CHARACTER * (max(map(len, column_names)) + 2)
    upright = longest > CELL_WIDTH and longest * len(columns) > WIDEST
    cell_width = CELL_WIDTH if upright else max(CELL_WIDTH, longest)
    width = 1.4 + CHARACTER * max(map(len, row_names)) + cell_width * len(columns)
    title_lines = textwrap.wrap(title, max(20, int(width / (1.3 * CHARACTER))))
    height = 0.5 + 0.2 * len(title_lines) + (longest if upright else 0.2)
    figure = new_figure(width, height + max(1.0, CELL_HEIGHT * len(rows)))
    axes = figure.subplots()
    shown = axes.imshow(values.numpy(), aspect="auto", vmin=low)
    axes.set_xticks(range(len(columns)), column_names, rotation=90 if upright else 0)
    axes.set_yticks(range(len(rows)), row_names)
    axes.tick_params(labelsize=LABEL_SIZE)
    figure.suptitle("\n".join(title_lines), fontsize=LABEL_SIZE + 2)
    middle = (float(values.max()) + (float(values.min()) if low is None else low)) / 2
    for i, row in enumerate(values.tolist()):
        for j, value in enumerate(row):
            colour = "black" if value > middle else "white"
            text = f"{value:.{digits}f}"
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(shown, fraction=0.8 / width).set_label(label, size=LABEL_SIZE)
    return figure
