"""A second set of values for what a module trains: a target network, a frozen reference.

The copy lies beside the module: it is no parameter, and optimiser, state dict and data parallelism
do not know it. Only what is trained has one, so that with adapters it is a copy of the adapters.
Sharded parameters have sharded copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zoo import parallel


class WeightCopy:
    """Values of a module's trained parameters at an earlier step."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}
        self._saved: dict[str, Tensor] | None = None

    @torch.no_grad()
    def sync(self, module: nn.Module) -> None:
        """Copy the module's present values."""
        self._saved = None
        for name, parameter in parallel.trained(module).items():
            if name in self.values:
                self.values[name].copy_(parameter)
            else:
                self.values[name] = parameter.detach().clone()

    @contextmanager
    def used(self, module: nn.Module) -> Iterator[None]:
        """Let the module compute with the copied values; with its own while there are none.

        No graph may be alive that is still to be backpropagated, for its weights change under it.
        """
        self.attach(module)
        if not self.values:
            yield
            return
        with parallel.exchanged(module, self.values):
            yield

    def state(self) -> dict[str, Tensor]:
        """Return the whole copy for a checkpoint; called in every process that shards."""
        if self._saved is not None:
            return self._saved
        return {name: parallel.whole(value) for name, value in self.values.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take what `state` returned; it is laid out like the parameters at its first use."""
        self._saved = dict(state)

    def attach(self, module: nn.Module) -> None:
        """Lay out what `load` took; without it, do nothing.

        Raises:
            RuntimeError: Other parameters are trained than those that were saved.
        """
        if self._saved is None:
            return
        parameters = parallel.trained(module)
        if parameters.keys() != self._saved.keys():
            other = sorted(parameters.keys() ^ self._saved.keys())
            raise RuntimeError(f"the saved copy is of other parameters, first {other[0]}")
        saved, self._saved = self._saved, None
        with torch.inference_mode(False):  # a validation may use it first, a step writes to it
            self.values = {
                name: parallel.laid_out(saved[name], like) for name, like in parameters.items()
            }
