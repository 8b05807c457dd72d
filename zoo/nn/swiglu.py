"""SwiGLU whose backward pass keeps gate and up projections and nothing else.

The eager MLP keeps gate, up, silu(gate) and their product: half of a block's activations. Here
silu(gate) * up is recomputed where the backward pass needs it; the values are the same.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import InputError

FAMILIES = ("Llama", "Qwen2", "Qwen3", "Mistral")
PLAIN = {f"{family}MLP" for family in FAMILIES}  # down(silu(gate(x)) * up(x))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), with the three projections of the module that it replaces.

    Args:
        mlp: The module to replace; its projections are taken over under their names.
    """

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., D)` to `(..., D)`."""
        gate, up, weight = self.gate_proj(x), self.up_proj(x), self.down_weight(x)
        if weight is not None:
            out: Tensor = _GatedDown.apply(gate, up, weight)
            return out
        product: Tensor = _Gated.apply(gate, up)
        mapped: Tensor = self.down_proj(product)
        return mapped

    def down_weight(self, x: Tensor) -> Tensor | None:
        """Return the down-projection's weight in the type of its product, None if it is adapted.

        Adapted, quantised or with a bias: then it has to be called as a module.
        """
        down = self.down_proj
        if type(down) is not nn.Linear or down.bias is not None:
            return None
        if torch.is_autocast_enabled(x.device.type):
            return down.weight.to(torch.get_autocast_dtype(x.device.type))
        return down.weight


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        return _split(grad, gate, up, F.silu(gate))


class _GatedDown(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, weight_DF: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up, weight_DF)
        return F.linear(F.silu(gate).mul_(up), weight_DF)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, weight_DF = ctx.saved_tensors
        active = F.silu(gate)
        grad_weight = None
        if ctx.needs_input_grad[2]:
            product = (active * up).flatten(0, -2)
            grad_weight = grad.flatten(0, -2).t() @ product
        return *_split(grad @ weight_DF, gate, up, active), grad_weight


def _split(grad: Tensor, gate: Tensor, up: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of gate and up, given that of silu(gate) * up."""
    grad_gate = torch.ops.aten.silu_backward(grad * up, gate)
    return grad_gate, active.mul_(grad)


def replace_mlps(lm: nn.Module) -> int:
    """Replace the plain SwiGLU MLPs of a model in place, weights kept; return how many."""
    count = 0
    for parent in list(lm.modules()):
        for name, child in parent.named_children():
            plain = type(child).__name__ in PLAIN
            if plain and getattr(child.config, "hidden_act", "") == "silu":
                setattr(parent, name, SwiGLU(child))
                count += 1
    return count


def check_swiglu(config: Any, name: str) -> None:
    """Check that the blocks of a backbone have a plain SwiGLU; reads the config only.

    Raises:
        InputError: They have something else; names the architectures that fit.
    """
    known = config.model_type in [family.lower() for family in FAMILIES]
    if not known or config.hidden_act != "silu":
        raise InputError(
            f"backbone.name: the blocks of {name} have no SwiGLU; architectures that fit: "
            f"{', '.join(FAMILIES)}"
        )
