"""Inputs of the linear cross-entropy, and torch's own value and gradients of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

N, D, V = 300, 16, 50  # more rows than the softmax takes at a time


def inputs(dtype: torch.dtype = torch.float32, scale: float = 1.0) -> tuple[Tensor, ...]:
    hidden = (torch.randn(N, D) * scale).to(dtype).requires_grad_()
    weight = torch.randn(V, D).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(0, V, (N,)), torch.rand(N) * 3


def reference(hidden: Tensor, weight: Tensor, labels: Tensor, weights: Tensor) -> list[Tensor]:
    """Value and both gradients in float64, from the rounded inputs."""
    h, w = (x.detach().double().requires_grad_() for x in (hidden, weight))
    value = (cross_entropy(h @ w.t(), labels, reduction="none") * weights.double()).sum()
    return [value.detach(), *torch.autograd.grad(value, (h, w))]


def rows(number: int, dtype: torch.dtype) -> int:
    """Return the budget for a number of rows per chunk."""
    return number * V * dtype.itemsize


# the value is a float32 scalar for every input type
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-6, torch.bfloat16: 2e-2}
