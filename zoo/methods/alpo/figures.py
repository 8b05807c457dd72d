"""What a preference step shows: weights, betas and implicit rewards of its pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.plots import new_figure


class Margins(NamedTuple):
    """Parts of equation (7), `(P,)` each, without gradient.

    Attributes:
        weights: w of each pair.
        betas: beta.
        chosen: Implicit reward beta (log pi - log pi_0) of the chosen candidate.
        rejected: That of the rejected one.
    """

    weights: Tensor
    betas: Tensor
    chosen: Tensor
    rejected: Tensor

    def means(self, segments: int) -> dict[str, Tensor]:
        """Return what is logged of a step, given the number of its segments, gated ones too."""
        pairs = torch.tensor(float(len(self.weights)))
        if not len(self.weights):
            return {"gate_rate": pairs}
        return {
            "gate_rate": pairs / segments,
            "weight": self.weights.mean(),
            "beta": self.betas.mean(),
            "reward_chosen": self.chosen.mean(),
            "reward_rejected": self.rejected.mean(),
            "reward_margin": (self.chosen - self.rejected).mean(),
            "reward_accuracy": (self.chosen > self.rejected).float().mean(),
        }


def pair_figures(steps: Sequence[Margins]) -> dict[str, Any]:
    """Return histograms of the pairs of some steps; nothing without pairs."""
    parts = [torch.cat(part).cpu() for part in zip(*steps, strict=True)]
    if not parts or not len(parts[0]):
        return {}
    weights, betas, chosen, rejected = parts
    figure = new_figure(9, 3)
    axes = figure.subplots(1, 3)
    shown = {"weight": weights, "beta": betas, "reward margin": chosen - rejected}
    for axis, (name, values) in zip(axes, shown.items(), strict=True):
        axis.hist(values.float().numpy(), bins=20)
        axis.set_xlabel(name)
    axes[0].set_ylabel("pairs")
    return {"pairs": figure}
