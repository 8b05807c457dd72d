"""Memory of a training step, counted on tensors that have shapes and no content.

The method's own step runs forward and backward on fake tensors, as on a CPU, twice, since the
gradients of one step live through the forward pass of the next; every tensor counts from when it
comes to be until nobody holds it. Weights are not counted, gradients are, and so is what a method
keeps when training starts (a target network). What an allocator or a kernel needs beside its
results cannot be counted: the line of `check` adds a share of it that was measured.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo.module import ZooModule

GIB = 2**30
ALLOCATOR = 0.12  # of the whole, beside what is counted (`python -m benchmarks.step_memory`)
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class UncountableError(Exception):
    """The step of a method needs values, or something that only a run prepares."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is on.

    Args:
        present: Tensors that are there before; neither they nor views of them count.

    Attributes:
        live: Bytes of those that somebody holds.
        peak: The most that there were at once.
    """

    def __init__(self, present: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._present = [tensor.untyped_storage() for tensor in present]
        self._known: dict[int, int] = {storage._cdata: 0 for storage in self._present}

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


@dataclass(frozen=True)
class Memory:
    """What training on a micro-batch takes, in bytes.

    Attributes:
        weights: Of all parameters.
        states: Of AdamW.
        step: Gradients, activations and all else that a step holds at most.
        estimated: Why `step` is only estimated; empty if it was counted.
    """

    weights: int
    states: int
    step: int
    estimated: str = ""


def memory_line(module: ZooModule, batch: Any, precision: str, accumulate: int) -> str:
    """Return what `check` says of memory; see `memory` for the arguments."""
    if module.untrained():
        weights = sum(p.numel() * p.element_size() for p in module.parameters())
        return f"memory      weights {weights / GIB:.2f} GiB; nothing is trained"
    found = memory(module, batch, precision, accumulate)
    how = f"a rough estimate, no step ran: {found.estimated}" if found.estimated else "counted"
    whole = found.weights + found.states + found.step
    kept = ALLOCATOR * whole
    unit, number = next(iter(batch.counts().items()))
    return (
        f"memory      about {(whole + kept) / GIB:.2f} GiB in training: "
        f"weights {found.weights / GIB:.2f}, AdamW {found.states / GIB:.2f}, gradients and "
        f"activations on {int(number):,} {unit.replace('_', ' ')} {found.step / GIB:.2f}, kept by "
        f"the allocator {kept / GIB:.2f} ({how})"
    )


def memory(module: ZooModule, batch: Any, precision: str, accumulate: int = 1) -> Memory:
    """Return the memory of training on a micro-batch; see `step_bytes` for the arguments."""
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in module.parameters()]
    weights, trained = sum(n for n, _ in sizes), sum(n for n, learns in sizes if learns)
    try:
        return Memory(weights, 2 * trained, step_bytes(module, batch, precision, accumulate))
    except UncountableError as error:
        step = trained + activation_bytes(module, batch)
        return Memory(weights, 2 * trained, step, str(error))


def activation_bytes(module: ZooModule, batch: Any) -> int:
    """Return an estimate of what a language model keeps for its backward pass; 0 for others."""
    if module.lm is None:
        return 0
    config = module.lm.config
    inner = getattr(config, "intermediate_size", 4 * config.hidden_size) // config.hidden_size
    per_block = 2 if module.backbone.gradient_checkpointing else 20 + 4 * inner
    width = next(module.parameters()).element_size()
    tokens = int(batch.num_tokens)
    return tokens * config.hidden_size * config.num_hidden_layers * per_block * width


def step_bytes(module: ZooModule, batch: Any, precision: str, accumulate: int = 1) -> int:
    """Return the most bytes beside the weights that a step of training holds.

    Args:
        module: Built on the meta device. Its weights are fake afterwards.
        batch: A micro-batch, on the CPU.
        precision: Lightning's name of it.
        accumulate: Micro-batches per optimiser step.

    Raises:
        UncountableError: The step cannot be run without values or outside of a run; says why.
    """
    forget_content(module)
    module.log_terms = _log_nothing  # type: ignore[method-assign]
    module.log = _log_nothing  # type: ignore[method-assign]
    dtype, counter = AUTOCAST.get(precision), LiveBytes([*module.parameters(), *module.buffers()])
    try:
        with counter:
            module.on_train_start()
            for _ in range(2):  # in Lightning's order
                with torch.autocast("cpu", dtype, enabled=dtype is not None):
                    loss = module.training_step(batch, 0)
                if accumulate == 1:
                    module.zero_grad()
                loss.backward()
                del loss
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


def _log_nothing(*values: Any, **options: Any) -> None:
    """Stand in for logging, which reads values."""
