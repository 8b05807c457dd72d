"""Types of numbers: in which weights are held, in which a run computes, and what a processor has.

What is trained is held in float32: a step of 1e-5 is below the resolution of bfloat16 for nearly
every weight, which then stays where it is for ever. What is frozen keeps `backbone.dtype`. Where
both meet, autocast computes in the type of the frozen weights.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.module import ZooModule

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
HALF = (torch.bfloat16, torch.float16)


def check(trainer: Any, module: ZooModule, *, trains: bool) -> None:
    """Raise if a run can not compute in the precision that its trainer has.

    Args:
        trainer: Lightning's Trainer.
        module: What it runs; its settings are read, it need not be built.
        trains: Weights of two types may meet.

    Raises:
        InputError: The precision converts the weights themselves, or it is float32 although the
            backbone has another type or an attention that needs one.
    """
    asked = str(trainer.precision)
    if asked not in PRECISIONS:
        raise InputError(
            f"trainer.precision: {asked} is not supported; use {', '.join(PRECISIONS)}. "
            f"Frozen weights are held in half precision by model.backbone.dtype: bfloat16"
        )
    if not trains or asked != "32-true":
        return
    backbone = module.backbone
    needs = {"dtype": backbone.dtype != "float32", "attention": backbone.attention != "sdpa"}
    for key in (key for key, needed in needs.items() if needed):
        raise InputError(
            f"trainer.precision: 32-true does not fit model.backbone.{key}: "
            f"{getattr(backbone, key)}; use bf16-mixed"
        )


def prepare(module: ZooModule) -> None:
    """Check the precision of a run, and hold in float32 what it is about to train."""
    trainer = module._trainer
    if trainer is None:
        return
    trains = trainer.state.fn == "fit"
    check(trainer, module, trains=trains)
    if trains:  # else the weights keep one type
        hold_trained_in_float32(module)


def hold_trained_in_float32(module: nn.Module) -> None:
    """Convert trainable parameters of half precision in place; tied ones stay tied."""
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.dtype in HALF:
            parameter.data = parameter.data.float()


def types(module: nn.Module) -> str:
    """Return a line on the types of trained and of frozen parameters."""
    found = []
    for name, trained in (("trained", True), ("frozen", False)):
        kinds = {p.dtype for p in module.parameters() if p.requires_grad is trained}
        listed = sorted(str(kind).removeprefix("torch.") for kind in kinds)
        found += [f"{name} parameters in {' and '.join(listed)}"] if listed else []
    return ", ".join(found)


def computing(module: ZooModule) -> AbstractContextManager[Any]:
    """Return autocast to the half precision of some weights if others are in float32.

    For passes outside of a Trainer's steps, which have an autocast of their own.
    """
    kinds = {p.dtype for p in module.parameters()}
    half = [kind for kind in HALF if kind in kinds]
    device = module.device.type
    if not half or torch.float32 not in kinds or torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, half[0], cache_enabled=False)


def best(accelerator: str) -> tuple[str, str]:
    """Return the precision that a processor is fast in, and why; weights are in float32 in both.

    Args:
        accelerator: What computes: `cpu`, `cuda`, or another that Lightning knows.
    """
    if accelerator == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed", f"{torch.cuda.get_device_name()} computes in bfloat16"
        return "32-true", f"{torch.cuda.get_device_name()} does not compute in bfloat16"
    if accelerator != "cpu":
        return "32-true", f"{accelerator} is not known to compute in bfloat16"
    has = torch.cpu.get_capabilities()
    found = [name for name in ("avx512_bf16", "amx_bf16", "bf16") if has.get(name)]
    if found:
        return "bf16-mixed", f"this processor has bfloat16 instructions ({', '.join(found)})"
    return "32-true", "this processor has no bfloat16 instructions"
