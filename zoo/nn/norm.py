"""RMSNorm that keeps its input for the backward pass and nothing else.

Hugging Face's eager version keeps the float32 copy, its square's mean and the normalised state of
every norm: more memory than the MLP. The values are the same; the backward pass is written out.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

# Classes that compute weight * (x / rms(x)), the product in the type of x.
PLAIN = {"LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "MistralRMSNorm"}


class RMSNorm(nn.Module):
    """weight * x / sqrt(mean(x^2) + eps) over the last dimension.

    Args:
        weight: Parameter `(D,)`, taken over from the module that this one replaces.
        eps: Added to the mean square.
    """

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = weight, eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(..., D)`."""
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type):  # what its readers would cast it to, each anew
            dtype = torch.get_autocast_dtype(x.device.type)
        out: Tensor = _RMSNorm.apply(x, self.weight, self.eps, dtype)
        return out


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        scale = x.to(wide).square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight_D, scale)
        return (weight_D * (x.to(wide) * scale).to(x.dtype)).to(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight_D, scale = ctx.saved_tensors
        unit = x.to(scale.dtype) * scale
        grad = grad.to(scale.dtype)
        grad_weight = (grad * unit).flatten(0, -2).sum(0)
        grad_unit = grad * weight_D.to(scale.dtype)
        inner = (grad_unit * unit).mean(-1, keepdim=True)
        grad_x = grad_unit.sub_(unit.mul_(inner)).mul_(scale)
        return grad_x.to(x.dtype), grad_weight.to(weight_D.dtype), None, None


def replace_norms(lm: nn.Module) -> int:
    """Replace the plain RMSNorms of a model in place, weights kept; return how many."""
    count = 0
    for parent in list(lm.modules()):
        for name, child in parent.named_children():
            if type(child).__name__ in PLAIN:
                setattr(
                    parent,
                    name,
                    RMSNorm(cast(nn.Parameter, child.weight), cast(float, child.variance_epsilon)),
                )
                count += 1
    return count
