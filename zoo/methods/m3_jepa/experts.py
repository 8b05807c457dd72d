"""A pool of feed-forward experts with sparse dispatch: a token costs K experts, not N.

Shapes: T tokens, H width, N experts, K experts per token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Experts(nn.Module):
    """N experts, each Linear H -> H, GELU, Dropout, Linear H -> H, Dropout.

    Args:
        num_experts: N.
        width: H.
        dropout: Dropout inside and after each expert.
    """

    def __init__(self, num_experts: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.up_NHH = nn.Parameter(torch.empty(num_experts, width, width))
        self.up_bias = nn.Parameter(torch.zeros(num_experts, width))
        self.down_NHH = nn.Parameter(torch.empty(num_experts, width, width))
        self.down_bias = nn.Parameter(torch.zeros(num_experts, width))
        self.dropout = dropout
        for weight in (self.up_NHH, self.down_NHH):
            kaiming_(weight)

    def forward(self, x_TH: Tensor, chosen_TK: Tensor, weights_TK: Tensor) -> Tensor:
        """Return sum_k weights[t, k] * Expert_chosen[t, k](x[t]), `(T, H)`.

        Args:
            x_TH: Tokens.
            chosen_TK: Experts of each token, each at most once per token.
            weights_TK: Weight of each of them.
        """
        num_experts, per_token = len(self.up_NHH), chosen_TK.shape[1]
        order = chosen_TK.flatten().argsort(stable=True)  # assignments, expert after expert
        counts = torch.bincount(chosen_TK.flatten(), minlength=num_experts).tolist()
        out_TH = torch.zeros_like(x_TH)
        for expert, slots in zip(self.each(), order.split(counts), strict=True):
            # An expert without tokens still takes part, so that its gradient is zero, not missing.
            tokens = slots // per_token
            made = self.apply_expert(expert, x_TH.index_select(0, tokens))
            weight = weights_TK.flatten().index_select(0, slots)[:, None]
            out_TH.index_add_(0, tokens, (made * weight).to(out_TH.dtype))
        return out_TH

    def each(self) -> list[tuple[Tensor, ...]]:
        """Return the weights of each expert: up, its bias, down, its bias."""
        stacks = (self.up_NHH, self.up_bias, self.down_NHH, self.down_bias)
        return list(zip(*(stack.unbind(0) for stack in stacks), strict=True))

    def apply_expert(self, expert: tuple[Tensor, ...], x_TH: Tensor) -> Tensor:
        """Return one expert of every token, `(T, H)`."""
        up, up_bias, down, down_bias = expert
        inner = F.dropout(F.gelu(F.linear(x_TH, up, up_bias)), self.dropout, self.training)
        return F.dropout(F.linear(inner, down, down_bias), self.dropout, self.training)


def kaiming_(weight: Tensor) -> None:
    """Fill uniformly within sqrt(6 / fan_in), the last size being the fan-in."""
    bound = math.sqrt(6 / weight.shape[-1])
    nn.init.uniform_(weight, -bound, bound)
