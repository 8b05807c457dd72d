"""The arithmetic of a SwiGLU whose gate bends with a beta per token and channel (MeGan).

    (3)  beta = 1 + delta,  delta = tanh(W_b z) / 2
    (4)  a = silu(beta * g) / beta = g * sigmoid(beta * g)
    (5)  y = down(a * up)

Of the tensors of inner width the backward pass keeps g and up alone; beta and the sigmoid are made
again from the R-wide state z. Equation (4) divides, as the released code does: where beta is 1 that
leaves silu(g) bit for bit, which the product with a sigmoid does not, and costs the same.

Shapes: N tokens, R width of the state, F inner width, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CPU_ELEMENTS = 2**16  # pointwise work at a time: what stays in a core's cache
ELEMENTS = 2**24  # elsewhere: 64 MiB for each float32 intermediate


def make_delta(logits: Tensor, rows: Tensor | None) -> Tensor:
    """Return delta = tanh(logits) / 2, at least in float32: near 1 bfloat16 steps by 2^-7.

    Beyond |logits| = 9 the float32 tanh rounds to 1 and beta touches 0.5 or 1.5.

    Args:
        logits: W_b z, `(..., F)`.
        rows: 1 and 0, `(..., 1)`: where beta is free and where it is 1; None for ones.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    delta = torch.tanh(logits.to(wide)) * 0.5  # a new tensor: autograd keeps the tanh
    return delta if rows is None else delta * rows


def pieces(x_NF: Tensor) -> Iterator[slice]:
    """Yield slices over rows that hold about as many elements as are worked on at a time."""
    elements = CPU_ELEMENTS if x_NF.device.type == "cpu" else ELEMENTS
    step = max(32, elements // x_NF.shape[1] // 32 * 32)  # 32: vector lanes as in the whole
    for start in range(0, x_NF.shape[0], step):
        yield slice(start, start + step)


class BentDown(torch.autograd.Function):
    """Equations (3) to (5) from gate, up and state; keeps these three.

    Returns y, or a * up without a weight for down, and the sum of |delta| (0 unless `sized`).
    """

    @staticmethod
    def forward(
        ctx: Any,
        gate: Tensor,
        up: Tensor,
        state: Tensor,
        weight_FR: Tensor,
        bias_F: Tensor | None,
        rows_N1: Tensor | None,
        down_DF: Tensor | None,
        sized: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return y and the sum of |delta|."""
        ctx.save_for_backward(gate, up, state, weight_FR, bias_F, rows_N1, down_DF)
        ctx.sized = sized
        product = F.linear(state, weight_FR, bias_F)  # the logits; overwritten below
        wide = torch.promote_types(gate.dtype, torch.float32)
        size = torch.zeros((), dtype=wide, device=gate.device)
        g_NF, u_NF, p_NF = (x.flatten(0, -2) for x in (gate, up, product))
        for part in pieces(g_NF):
            beta = make_delta(p_NF[part], None if rows_N1 is None else rows_N1[part])
            if sized:
                size += beta.abs().sum()
            beta.add_(1)
            active = F.silu(g_NF[part].to(wide).mul(beta), inplace=True).div_(beta)
            torch.mul(active.to(gate.dtype), u_NF[part], out=p_NF[part])
        return (product if down_DF is None else F.linear(product, down_DF)), size

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_size: Tensor) -> tuple[Tensor | None, ...]:
        """Make beta and the sigmoid again, piece by piece."""
        gate, up, state, weight_FR, bias_F, rows_N1, down_DF = ctx.saved_tensors
        needs = ctx.needs_input_grad
        grad_product = (grad if down_DF is None else grad @ down_DF).flatten(0, -2)
        logits = F.linear(state, weight_FR, bias_F).flatten(0, -2)  # becomes their gradient
        product = torch.empty_like(logits) if needs[6] else None
        grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
        g_NF, u_NF, dg_NF, du_NF = (x.flatten(0, -2) for x in (gate, up, grad_gate, grad_up))
        for part in pieces(g_NF):
            rows = None if rows_N1 is None else rows_N1[part]
            g, u, dp, delta, steep = _wide(
                g_NF[part], u_NF[part], grad_product[part], logits[part], rows
            )
            beta = delta + 1
            s = torch.sigmoid(beta * g)
            active = g * s
            du_NF[part] = dp * active
            if product is not None:
                product[part] = active.to(gate.dtype) * u_NF[part]
            dp.mul_(u)
            slope = active.mul_(1 - s).mul_(dp)  # dp g s (1 - s)
            dg_NF[part] = dp.mul_(s).addcmul_(beta, slope)
            slope.mul_(g)
            if ctx.sized:
                slope.add_(delta.sign_().mul_(grad_size))
            logits[part] = slope.mul_(steep)
        state_NR = state.flatten(0, -2)
        grad_state = (logits @ weight_FR).view_as(state) if needs[2] else None
        grad_weight = logits.t() @ state_NR if needs[3] else None
        grad_bias = logits.sum(0) if bias_F is not None and needs[4] else None
        grad_down = None if product is None else grad.flatten(0, -2).t() @ product
        return grad_gate, grad_up, grad_state, grad_weight, grad_bias, None, grad_down, None


def _wide(
    gate: Tensor, up: Tensor, grad: Tensor, logits: Tensor, rows: Tensor | None
) -> tuple[Tensor, ...]:
    """Return gate, up, grad (a copy), delta and d delta / d logits, at least in float32."""
    wide = torch.promote_types(gate.dtype, torch.float32)
    tanh = torch.tanh(logits.to(wide))
    steep = (1 - tanh.square()).mul_(0.5)
    delta = tanh.mul_(0.5)
    if rows is not None:
        delta.mul_(rows)
        steep.mul_(rows)
    return gate.to(wide), up.to(wide), grad.to(wide, copy=True), delta, steep
