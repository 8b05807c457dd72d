"""straQ*'s figure: bars of the values of states."""

from __future__ import annotations

import pytest
from matplotlib.colors import same_color
from methods.straq.straq_rated_talk import VALUES

from zoo.methods.straq.plots import value_bars
from zoo.support.labels import STRATEGIES


def test_bars_are_the_values_of_each_state() -> None:
    """The best one alone is coloured, the right one framed; the first option is on top."""
    rows = [("one state", VALUES, STRATEGIES[4]), ("a second\nstate" * 9, VALUES[::-1], "")]
    drawn = value_bars(rows, STRATEGIES).axes
    assert len(drawn) == 2
    for axes, (_, values, gold) in zip(drawn, rows, strict=True):
        assert [bar.get_width() for bar in axes.patches] == list(values)
        best = [same_color(bar.get_facecolor(), "tab:blue") for bar in axes.patches]
        assert best == [value == max(values) for value in values]
        framed = [same_color(bar.get_edgecolor(), "tab:green") for bar in axes.patches]
        assert framed == [name == gold for name in STRATEGIES]
        assert {bar.get_linewidth() for bar, f in zip(axes.patches, framed, strict=True) if f} <= {
            2.0
        }
        assert [tick.get_text() for tick in axes.get_yticklabels()] == list(STRATEGIES)
        top, bottom = axes.transData.transform([(0, 0), (0, len(values) - 1)])[:, 1]
        assert top > bottom
        low, high = axes.get_xlim()
        room = 0.1 * (max(values) - min(values))  # on both sides, so that no bar ends at the edge
        assert (low, high) == pytest.approx((min(values) - room, max(values) + room), abs=1e-4)
    assert drawn[0].get_title() == "one state"
    assert len(drawn[1].get_title()) <= 60


def test_equal_values_can_be_drawn() -> None:
    (axes,) = value_bars([("all alike", (0.0, 0.0), "A")], ["A", "B"]).axes
    low, high = axes.get_xlim()
    assert low < 0 < high
