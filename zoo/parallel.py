"""Several processes: how weights are sharded, and what the processes tell each other.

FSDP2 runs through Lightning's `ModelParallelStrategy` (also on CPU processes with gloo). Each block
is one shard group; everything else (embedding, norm, heads) belongs to the root group, which is
gathered once per step and stays whole through it, so a head can be used in several chunks and the
blocks may be run by views. FSDP1 (`FSDPStrategy`, CUDA only) wraps the module itself in Lightning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn

from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.module import ZooModule

STEPS = ("training_step", "validation_step", "test_step", "predict_step")


def shard(module: ZooModule) -> None:
    """Apply FSDP2 in place if the trainer's strategy asks for it; call after all surgery.

    DDP copies instead; it is told that a step may leave parameters without a gradient.
    """
    trainer = module._trainer
    if trainer is not None and isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
    if trainer is None or not isinstance(trainer.strategy, ModelParallelStrategy):
        return
    from torch.distributed.fsdp import (
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    mesh = trainer.strategy.device_mesh
    if mesh["tensor_parallel"].size() > 1:
        raise ValueError("tensor_parallel_size: only 1 is supported; use data_parallel_size")
    policy = MixedPrecisionPolicy()
    if trainer.precision == "bf16-mixed":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    options: dict[str, Any] = {"mesh": mesh["data_parallel"], "mp_policy": policy}
    for block in module.blocks():
        fully_shard(block, **options)
    fully_shard(module, **options)
    for name in module.passes:
        register_fsdp_forward_method(module, name)


def is_sharded(module: ZooModule) -> bool:
    """Return whether each process holds a part of the weights: running a block is a collective."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(module, FSDPModule)


def everyone_done(module: ZooModule) -> Callable[[bool], bool]:
    """Return a function that is true once its argument is true in every process that shards.

    Running a sharded block is a collective, so no process may stop decoding before the others.
    """
    if not is_sharded(module):
        return bool

    def agree(done: bool) -> bool:
        flag = torch.tensor(int(done), device=module.device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MIN)
        return bool(flag)

    return agree


def gathered(value: Any) -> list[Any]:
    """Return what each process holds, in the order of their ranks; called in all of them."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def clip_grad_norm(module: ZooModule, max_norm: float, apart: Sequence[nn.Module] = ()) -> Tensor:
    """Scale gradients to a global norm of at most `max_norm`; return the norm before.

    Args:
        module: The module that trains.
        max_norm: Infinity leaves the gradients as they are.
        apart: Parts of it whose gradients are each scaled to `max_norm` by themselves.

    Raises:
        InputError: There are such parts, and FSDP1 holds them in a form that only it knows.
    """
    if isinstance(module.trainer.strategy, FSDPStrategy):
        if apart:
            raise InputError("model.optimizer.clip_heads_apart: not with FSDP1; use FSDP2")
        return module.trainer.model.clip_grad_norm_(max_norm)  # type: ignore[union-attr, operator]
    parts = [list(part.parameters()) for part in apart]
    own = {id(p) for part in parts for p in part}
    parts.append([p for p in module.parameters() if id(p) not in own])
    norms = [torch.nn.utils.clip_grad_norm_(part, max_norm) for part in parts]
    whole = [n.full_tensor() if hasattr(n, "full_tensor") else n for n in norms]
    return torch.linalg.vector_norm(torch.stack(whole)) if apart else whole[0]


def trained(module: nn.Module) -> dict[str, Tensor]:
    """Return the trained parameters as they are held between steps, by name: shards if sharded.

    Raises:
        InputError: FSDP1 holds them, in a form that only it knows.
    """
    from torch.distributed.fsdp import FSDPModule

    if isinstance(getattr(getattr(module, "_trainer", None), "strategy", None), FSDPStrategy):
        raise InputError(
            "trainer.strategy: FSDP1 does not fit this method; use overlays/fsdp2.yaml"
        )
    if isinstance(module, FSDPModule):
        module.reshard()  # the root group stays whole after a forward pass
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


@contextmanager
def exchanged(module: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Give trained parameters other values for a while; their own are kept in `values` meanwhile.

    Autocast keeps weights that it has cast until its context ends, so that cache is off here.

    Args:
        module: Its trained parameters have the names of `values`. It is not in a forward pass of
            its own (see `ZooModule.passes`): FSDP holds on to the whole weights of one.
        values: Tensors that are laid out like the parameters.
    """
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    _exchange(trained(module), values)
    try:
        yield
    finally:
        _exchange(trained(module), values)
        torch.set_autocast_cache_enabled(cached)


@torch.no_grad()
def _exchange(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        parameter = parameters[name]
        if hasattr(parameter, "full_tensor"):  # FSDP holds views of it: move the numbers
            own = parameter.clone()
            parameter.copy_(value)
            value.copy_(own)
        else:
            parameter.data, value.data = value.data, parameter.data


def whole(tensor: Tensor) -> Tensor:
    """Return a possibly sharded tensor as a plain one; called in every process that shards."""
    return tensor.full_tensor().cpu() if hasattr(tensor, "full_tensor") else tensor


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a copy of a plain tensor with the type, device and sharding of another."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    copy = tensor.detach().to(like.device, like.dtype, copy=True)
    if isinstance(like, DTensor):
        return distribute_tensor(copy, like.device_mesh, like.placements)
    return copy
