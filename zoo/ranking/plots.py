"""Figures of rankers for TensorBoard: how scores are distributed, recall over k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.plots import new_figure


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
