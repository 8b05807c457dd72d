"""A small network from states to states of the same width."""

from __future__ import annotations

from torch import Tensor, nn


class StatePredictor(nn.Module):
    """Linear layers D -> D with ReLU between them, applied to every token alike.

    Args:
        width: D.
        num_layers: Number of linear layers.
    """

    def __init__(self, width: int, num_layers: int = 2) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for _ in range(num_layers):
            parts += [nn.Linear(width, width), nn.ReLU()]
        self.layers = nn.Sequential(*parts[:-1])

    def forward(self, states: Tensor) -> Tensor:
        """Return `(..., D)` of `(..., D)`, in float32."""
        predicted: Tensor = self.layers(states.float())
        return predicted
