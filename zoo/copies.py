"""Several full copies of a model beside it: all of its weights are trained, once for each name.

The costly alternative to adapters (`zoo.adapters`), with the same switch: who computes is chosen by
`using(lm, name)`, and without a name it is the model as it was, a frozen reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from torch import Tensor, nn


class Copied(nn.Module):
    """A layer and its copies by name, one of which computes.

    Args:
        layer: The frozen original.
        copies: Copies of it.
    """

    def __init__(self, layer: nn.Module, copies: dict[str, nn.Module]) -> None:
        super().__init__()
        self.base_layer, self.copies = layer, nn.ModuleDict(copies)
        self._active_adapter, self._disable_adapters = list(copies)[:1], False

    @property
    def active(self) -> nn.Module:
        """Who computes."""
        return self.base_layer if self._disable_adapters else self.copies[self._active_adapter[0]]

    @property
    def weight(self) -> Tensor:
        """The weight of who computes, which losses of the vocabulary head read."""
        weight: Tensor = self.active.weight  # type: ignore[assignment]
        return weight

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run who computes."""
        return self.active(*args, **kwargs)


def add_copies(lm: nn.Module, names: Sequence[str]) -> None:
    """Copy every layer that holds weights, in place; the originals are frozen.

    Weights that two layers share are shared by their copies, too.

    Args:
        lm: A model.
        names: What the copies are called; the first one is active.
    """
    lm.requires_grad_(False)
    known: dict[str, dict[int, Any]] = {name: {} for name in names}
    for parent in list(lm.modules()):
        for key, layer in list(parent.named_children()):
            if next(layer.parameters(recurse=False), None) is None:
                continue
            copies = {name: deepcopy(layer, known[name]) for name in names}
            for copy in copies.values():
                copy.requires_grad_(True)
            setattr(parent, key, Copied(layer, copies))
