"""What TensorBoard shows of next speakers: shares of turns, and who is taken for whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from zoo.plots import heat_map, new_figure, shorten

SHOWN = 10  # people with most turns; all others are one row
REST = "(rest)"


def speaker_figures(said: Sequence[str], expected: Sequence[str]) -> dict[str, Any]:
    """Return a figure of shares of turns and one of confusions; nothing without turns.

    Args:
        said: Who spoke, of turns of many scenes.
        expected: Who was expected at each of these turns.
    """
    if not said:
        return {}
    most = [name for name, _ in Counter(said).most_common(SHOWN)]
    more = set(said) | set(expected)
    names = most + [REST] * bool(more - set(most))
    rows, columns = ([name if name in most else REST for name in side] for side in (said, expected))
    counts = torch.zeros(len(names), len(names))
    for row, column in zip(rows, columns, strict=True):
        counts[names.index(row), names.index(column)] += 1
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    confusion = heat_map(shares, names, names, "next speaker (rows) and expected one", "share")
    return {"speaker_confusion": confusion, "turn_share": _shares(counts, names)}


def _shares(counts: torch.Tensor, names: Sequence[str]) -> Any:
    """Return bars of the shares of turns, as they are and as they are expected."""
    figure = new_figure(1.5 + 0.7 * len(names), 3)
    axis = figure.subplots()
    places = torch.arange(len(names))
    for shift, side, label in ((-0.2, 1, "spoke"), (0.2, 0, "expected")):
        values = counts.sum(side) / counts.sum()
        axis.bar((places + shift).numpy(), values.numpy(), 0.4, label=label)
    axis.set_xticks(places.numpy(), [shorten(name, 12) for name in names], rotation=45)
    axis.set_ylabel("share of turns")
    axis.legend()
    return figure
