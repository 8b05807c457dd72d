"""What is logged and drawn of pairs."""

from __future__ import annotations

import pytest
import torch

from zoo.methods.alpo.figures import Margins, pair_figures


def margins(*rows: tuple[float, ...]) -> Margins:
    """Return margins of pairs of (weight, beta, chosen, rejected)."""
    return Margins(*torch.tensor(rows).reshape(-1, 4).T)


def test_what_is_logged_of_pairs() -> None:
    """Means over pairs; the rate of open gates is over segments, gated ones too."""
    parts = margins((0.5, 1.0, 2.0, 1.0), (0.25, 0.5, 0.0, 1.0), (0.25, 0.0, 1.0, 1.0))
    found = {name: float(value) for name, value in parts.means(4).items()}
    assert found == {
        "gate_rate": 0.75,
        "weight": pytest.approx(1 / 3),
        "beta": 0.5,
        "reward_chosen": 1.0,
        "reward_rejected": 1.0,
        "reward_margin": 0.0,
        "reward_accuracy": pytest.approx(1 / 3),
    }
    assert {name: float(value) for name, value in margins().means(4).items()} == {"gate_rate": 0.0}


def test_pairs_are_drawn_as_histograms() -> None:
    assert pair_figures([]) == pair_figures([margins()]) == {}
    steps = [margins((0.5, 1.0, 2.0, 0.5)), margins(), margins((0.25, 0.5, 0.0, 1.0))]
    axes = pair_figures(steps)["pairs"].axes
    assert [axis.get_xlabel() for axis in axes] == ["weight", "beta", "reward margin"]
    assert axes[0].get_ylabel() == "pairs"
    for axis, low, high in zip(axes, (0.25, 0.5, -1.0), (0.5, 1.0, 1.5), strict=True):
        bars = axis.patches
        assert sum(bar.get_height() for bar in bars) == 2
        assert bars[0].get_x() == pytest.approx(low)
        assert bars[-1].get_x() + bars[-1].get_width() == pytest.approx(high)
