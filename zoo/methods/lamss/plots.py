"""Figures of LaMsS for TensorBoard: risk over coverage, answers shaded by doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.plots import new_figure, shorten


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
        axes.text(0, -i - 0.25, shorten(question, 90), fontsize=7, color="grey")
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
