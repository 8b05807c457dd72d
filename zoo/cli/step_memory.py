"""Memory of a training step, counted on tensors that have shapes and no content.

The method's own step runs forward and backward on fake tensors, as on a CPU; every tensor counts
from when it comes to be until nobody holds it. Weights are not counted, gradients are. What an
allocator or a kernel needs beside its results is not known.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo.losses.cross_entropy import Term
from zoo.module import ZooModule

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class UncountableError(Exception):
    """The step of a method needs values, or something that only a run prepares."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is on.

    Attributes:
        live: Bytes of those that somebody holds.
        peak: The most that there were at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it returns."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        name = storage._cdata
        if name in self._known:  # a view, or changed in place
            return
        self._known[name] = storage.nbytes()
        self.live += self._known[name]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, name)

    def _forget(self, name: int) -> None:
        self.live -= self._known.pop(name)


def step_bytes(module: ZooModule, batch: Any, precision: str) -> int:
    """Return the most bytes beside the weights that a forward and a backward pass hold.

    Args:
        module: Built on the meta device. Its weights are fake afterwards.
        batch: A micro-batch, on the CPU.
        precision: Lightning's name of it.

    Raises:
        UncountableError: The step cannot be run without values or outside of a run; says why.
    """
    forget_content(module)
    module.log_terms = _log_nothing  # type: ignore[method-assign]
    dtype, counter = AUTOCAST.get(precision), LiveBytes()
    try:
        with counter:
            with torch.autocast("cpu", dtype, enabled=dtype is not None):
                loss = module.training_step(batch, 0)
            loss.backward()
    except Exception as error:  # whatever a step of any method reads that is not there
        raise UncountableError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    return counter.peak


def forget_content(module: nn.Module) -> None:
    """Replace weights and buffers by fake ones on the CPU; tied ones stay tied."""
    fakes: dict[int, Tensor] = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        for part in module.modules():
            for name, old in part._parameters.items():
                if old is not None:
                    new = nn.Parameter(_empty(old), requires_grad=old.requires_grad)
                    part._parameters[name] = fakes.setdefault(id(old), new)  # type: ignore[assignment]
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = fakes.setdefault(id(buffer), _empty(buffer))


def _empty(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype)


def _log_nothing(stage: str, terms: Mapping[str, Term]) -> None:
    """Stand in for logging, which reads values."""
