"""Figures for TensorBoard: every name can be read, none covers another or leaves the figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from zoo.methods.m3_jepa.plots import gate_usage
from zoo.methods.straq.plots import value_bars
from zoo.plots import LONGEST_LABEL, heat_map, shorten
from zoo.ranking.plots import recall_curves, score_histogram
from zoo.support.labels import STRATEGIES

CLASSES = [f"{'Materials and manufacturing engineering'[: 4 + n]} {n}" for n in range(40)]


def check_labels(figure: Any) -> list[str]:
    """Fail if a tick label or title covers another or is cut off; return the tick labels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, whole, texts = canvas.get_renderer(), figure.bbox, []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            drawn = [
                label
                for tick in axis.get_major_ticks()
                for label in (tick.label1, tick.label2)
                if low <= tick.get_loc() <= high and label.get_visible() and label.get_text()
            ]
            boxes = [label.get_window_extent(renderer) for label in drawn]
            for index, box in enumerate(boxes):
                assert not any(box.overlaps(other) for other in boxes[:index]), drawn[index]
            texts += drawn
        texts += [axes.title] if axes.title.get_text() else []
    for text in texts:
        box = text.get_window_extent(renderer)
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0 < box.y1 <= whole.y1, text
    return [text.get_text() for text in texts]


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (STRATEGIES, STRATEGIES),
        (CLASSES, [*CLASSES, "?"]),
        (["plant care", "turn down"], ["plant care", "turn down", "?"]),
        (["known"], ["accuracy", "skepticism"]),
        (["a persona of two sentences, longer than a label"], [str(i) for i in range(1, 33)]),
    ],
)
def test_names_of_a_heat_map(rows: Sequence[str], columns: Sequence[str]) -> None:
    values = torch.rand(len(rows), len(columns))
    labels = check_labels(heat_map(values, rows, columns, "rows are gold, columns chosen", "share"))
    assert {shorten(name) for name in [*rows, *columns]} <= set(labels)


def test_numbers_stay_in_their_cells() -> None:
    """The three digits of a small table and of a large one are narrower than a cell."""
    for names in (["a", "b"], CLASSES):
        table = torch.full((len(names), len(names)), -0.123)
        figure = heat_map(table, names, names, "title", "unit", low=None, digits=3)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        axes = figure.axes[0]
        cell = axes.get_window_extent().width / len(names)
        assert max(t.get_window_extent(canvas.get_renderer()).width for t in axes.texts) < cell


def test_long_names_are_cut() -> None:
    assert shorten("two\nlines") == "two lines"
    assert shorten("x" * 40) == "x" * (LONGEST_LABEL - 3) + "..."
    assert shorten("5$ or 6$") == r"5\$ or 6\$"


def test_other_figures() -> None:
    """Bars, histograms, curves and experts, with numbers that need many digits."""
    values = [0.1 + 1e-5 * n for n in range(len(STRATEGIES))]
    title = "My boss keeps on yelling at me, so I cannot sleep and feel awful"
    check_labels(value_bars([(title, values, STRATEGIES[0])] * 3, STRATEGIES))
    check_labels(score_histogram([1.2e-5, 3e-5], [1e-5, 1.1e-5]))
    check_labels(score_histogram([-12345.5, -12000.0], [-0.001]))
    check_labels(recall_curves({"LaHoRe": [0.1] * 900}))
    rows = [f"image+text2text, branch {n}" for n in range(4)]
    check_labels(gate_usage({row: torch.arange(64) for row in rows}))
