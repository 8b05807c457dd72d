"""The optimiser step: AdamW, its warm-up schedule over the steps of a run, clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo import parallel
from zoo.choices import check_choices
from zoo.errors import InputError


@dataclass(frozen=True)
class Optimizer:
    """AdamW and its schedule.

    Attributes:
        lr: Peak learning rate.
        schedule: After warm-up: `constant`, or `linear` or `cosine` decay to `final_ratio`.
        warmup_ratio: Share of all optimiser steps with linearly rising learning rate.
        weight_decay: Decoupled weight decay; not applied to vectors (norms, biases).
        beta1: Decay of the gradient mean.
        beta2: Decay of the squared gradient mean.
        final_ratio: Share of the peak learning rate that a decay ends at.
        clip_heads_apart: Clip the gradient of each head that was copied from the final one by its
            own norm: a head on a large raw stream has most of the norm, and under one limit for
            all it slows the rest down.

    Raises:
        InputError: There is no such schedule, or a number is outside of its range.
    """

    lr: float = 1e-5
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup_ratio: float = 0.1
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    final_ratio: float = 0.0
    clip_heads_apart: bool = False

    def __post_init__(self) -> None:
        """Check the schedule's name and the numbers."""
        check_choices(self, "optimizer")
        for name in ("lr", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"optimizer.{name}: {getattr(self, name)} is not 0 or more")
        for name in ("warmup_ratio", "final_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"optimizer.{name}: {getattr(self, name)} is not in 0..1")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"optimizer.{name}: {getattr(self, name)} is not in 0..1, below 1")

    def factor(self, step: int, total: int) -> float:
        """Return the share of the peak learning rate at a step of `total` optimiser steps."""
        warmup = math.ceil(self.warmup_ratio * total)
        if step < warmup:
            return (step + 1) / warmup
        left = max(0.0, (total - step) / max(1, total - warmup))
        decay = {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}
        return self.final_ratio + (1 - self.final_ratio) * decay[self.schedule]


def adamw(
    settings: Optimizer,
    parameters: Mapping[str, nn.Parameter],
    total_steps: int,
    rates: Callable[[str], float] | None = None,
) -> dict[str, Any]:
    """Return AdamW and its schedule as `configure_optimizers` returns them.

    Args:
        settings: Learning rate, schedule, decay.
        parameters: What is trained, by name.
        total_steps: Optimiser steps of the run.
        rates: Peak learning rate of a parameter by its name; None for that of the settings.
    """
    rate = {name: settings.lr if rates is None else rates(name) for name in parameters}
    vectors = {name for name, p in parameters.items() if p.ndim <= 1 or name.endswith("bias")}
    groups: list[dict[str, Any]] = [
        {
            "params": [p for n, p in parameters.items() if (rate[n], n in vectors) == (lr, small)],
            "weight_decay": 0.0 if small else settings.weight_decay,
            "lr": lr,
        }
        for lr in dict.fromkeys(rate.values())
        for small in (False, True)
    ]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: settings.factor(step, total_steps)
    )
    stepwise = {"scheduler": schedule, "interval": "step", "name": "lr"}
    return {"optimizer": optimizer, "lr_scheduler": stepwise}


def clip_gradients(module: Any, optimizer: Any, max_norm: float) -> Tensor:
    """Scale the gradients to a global norm of at most `max_norm`; return the norm before.

    Float16 gradients are divided by the scale of the loss first. Where they overflow at that
    scale, which the first scales do by design, `GradScaler` lowers it and leaves the step out.

    Args:
        module: The `ZooModule` that trains.
        optimizer: Its optimiser.
        max_norm: Infinity leaves the gradients as they are.

    Raises:
        RuntimeError: The norm is NaN or infinite, and no scale is left to lower.
    """
    scaler = getattr(module.trainer.precision_plugin, "scaler", None)
    if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        scaler.unscale_(optimizer)  # Lightning has done it for all optimisers but fused ones
    apart = module.copied_heads() if module.optimizer.clip_heads_apart else ()
    norm = parallel.clip_grad_norm(module, max_norm, apart)
    overflow = scaler is not None and scaler.get_scale() > 1
    if not torch.isfinite(norm) and not overflow:
        raise RuntimeError(
            f"gradient norm is {norm.item()} at step {module.global_step}: the loss diverged; "
            f"lower model.optimizer.lr or use bfloat16 instead of float16"
        )
    return norm


def total_steps(trainer: Any) -> int:
    """Return the optimiser steps of a run.

    `trainer.estimated_stepping_batches` is not read where a data module says its length: reading
    it in `configure_optimizers` loses the loader's saved place.
    """
    limit = trainer.max_steps if trainer.max_steps > 0 else math.inf
    data = getattr(trainer, "datamodule", None)
    if not trainer.max_epochs or trainer.max_epochs < 0:
        return int(limit if limit < math.inf else trainer.estimated_stepping_batches)
    if data is None:
        return int(trainer.estimated_stepping_batches)
    batches = len(data.train_dataloader())
    share = trainer.limit_train_batches
    batches = min(batches, share) if isinstance(share, int) else int(batches * share)
    epochs = math.ceil(batches / trainer.accumulate_grad_batches) * trainer.max_epochs
    return int(min(limit, epochs))
