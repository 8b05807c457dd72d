"""SwiGLU whose gate bends with a beta of its own for every token and channel (MeGan).

beta comes from a `Hypernetwork` (equations 1 and 2) and a condition; the arithmetic of equations 3
to 5 is in `zoo/methods/megan/gate_function.py`.

Shapes: B rows, T tokens, N = B T, S sequences, C condition tokens, D width, R width of the state,
F inner width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.methods.megan.gate_function import BentDown, make_delta
from zoo.methods.megan.hypernetwork import Hypernetwork, linear
from zoo.nn.swiglu import SwiGLU


class GatedSwiGLU(SwiGLU):
    """A SwiGLU that bends its gate if it was handed a gating for this call.

    Args:
        mlp: The module to replace; its projections are taken over under their names.
        layer: Index of its block.
    """

    def __init__(self, mlp: SwiGLU, layer: int) -> None:
        super().__init__(mlp)
        self.layer = layer
        self.gating: Gate | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, T, D)` to `(B, T, D)`; a gating serves once."""
        gating, self.gating = self.gating, None
        if gating is None:
            return super().forward(x)
        weight = self.down_weight(x)
        out = gating(self.layer, x, self.gate_proj(x), self.up_proj(x), weight)
        mapped: Tensor = out if weight is not None else self.down_proj(out)
        return mapped


Gate = Callable[[int, Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""From block, x, gate, up and the weight of down to y, or to a * up where that weight is None."""


def replace_gates(lm: Any) -> None:
    """Replace every block's SwiGLU in place, and let blocks take the argument `gating`.

    A block calls its attention with every argument that it does not know and its feed-forward part
    with none, so the gating goes in through the attention. It is an argument of the block, and not
    a state of the model, because a checkpointed block runs again in the backward pass.

    Raises:
        InputError: A block's feed-forward part is no SwiGLU.
    """
    for index, block in enumerate(lm.model.layers):
        if not isinstance(block.mlp, SwiGLU):
            raise InputError(f"backbone: block {index} of {type(lm).__name__} has no SwiGLU")
        block.mlp = GatedSwiGLU(block.mlp, index)
        block.self_attn.register_forward_pre_hook(partial(_hand_over, block.mlp), with_kwargs=True)


def _hand_over(
    mlp: GatedSwiGLU, attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    mlp.gating = kwargs.pop("gating", None)
    return args, kwargs


class StaticGating:
    """Ablation: a free beta per block and channel, without a condition.

    Args:
        beta_LF: beta of every block, `(layers, F)`.
    """

    def __init__(self, beta_LF: Tensor) -> None:
        self.beta_LF = beta_LF

    def __call__(
        self, layer: int, x: Tensor, gate: Tensor, up: Tensor, down_DF: Tensor | None
    ) -> Tensor:
        """Return equation (5) by plain autograd."""
        beta = self.beta_LF[layer]
        product = (F.silu(beta * gate) / beta).to(gate.dtype) * up
        return product if down_DF is None else F.linear(product, down_DF)

    def mean_betas(self, held_BT: Tensor) -> Tensor:
        """Return the mean beta of every block, the same in each row, `(B, layers)`."""
        return self.beta_LF.detach().float().mean(1).expand(held_BT.shape[0], -1)


class Gating:
    """The conditions of one forward pass, or of one dialogue, for all blocks.

    No dataclass: sharded blocks copy dataclasses among their arguments, and `sizes` and `means`
    would be written to the copies.

    Args:
        hypers: One hypernetwork for all blocks, or one for each.
        keys: Keys of the condition by hypernetwork.
        values: Values of the condition by hypernetwork.
        mask: True where a token may look, broadcastable to `(B, heads, T, C)`.
        rows: 1 for tokens with a condition and 0 for others, whose beta is 1; broadcastable to
            `(B, T, 1)`. None if all have one.

    Attributes:
        sizes: Sum of |delta| over tokens and channels by block, if it was asked for.
        means: Mean beta over channels of the tokens seen, `(B, T)` each, by block; None if not
            asked for.
    """

    def __init__(
        self,
        hypers: Sequence[Hypernetwork],
        keys: list[Tensor],
        values: list[Tensor],
        mask: Tensor,
        rows: Tensor | None,
    ) -> None:
        self.hypers, self.keys, self.values = hypers, keys, values
        self.mask, self.rows = mask, rows
        self.sizes: dict[int, Tensor] | None = None
        self.means: dict[int, list[Tensor]] | None = None

    def __call__(
        self, layer: int, x: Tensor, gate: Tensor, up: Tensor, down_DF: Tensor | None
    ) -> Tensor:
        """Return equation (5) for one block."""
        index = layer if len(self.hypers) > 1 else 0
        hyper = self.hypers[index]
        state = hyper(x, self.keys[index], self.values[index], self.mask, layer)
        weight, bias = hyper.head_parameters(state.dtype)
        if self.means is not None:
            delta = make_delta(linear(state, weight, bias), self.rows)
            self.means.setdefault(layer, []).append(1 + delta.mean(-1))
        rows = None if self.rows is None else self.rows.expand(*x.shape[:-1], 1).reshape(-1, 1)
        sized = self.sizes is not None
        out, size = BentDown.apply(gate, up, state, weight, bias, rows, down_DF, sized)
        if self.sizes is not None:
            self.sizes[layer] = size  # a recomputed block writes the same once more
        return out

    def size(self) -> Tensor:
        """Return the sum of |delta| over blocks, tokens and channels."""
        return torch.stack(list((self.sizes or {}).values())).sum()

    def mean_betas(self, held_BT: Tensor) -> Tensor:
        """Return the mean beta of every block over the tokens seen so far, `(B, layers)`.

        Args:
            held_BT: 1 for tokens and 0 for padding, for all tokens seen.
        """
        means = self.means or {}
        seen = [torch.cat(means[layer], 1) for layer in sorted(means)]
        count = held_BT.sum(1).clamp_min(1)
        return torch.stack([(mean * held_BT).sum(1) / count for mean in seen], 1)


def condition(
    hypernetworks: Iterable[nn.Module],
    embedded_SCD: Tensor,
    mask_SC: Tensor,
    *,
    lengths: Sequence[int] | None = None,
    held_BT: Tensor | None = None,
    unconditioned: bool = True,
) -> Gating:
    """Return the gating of sequences that have a condition each.

    Args:
        hypernetworks: One `Hypernetwork` for all blocks, or one for each.
        embedded_SCD: Input embeddings of the conditions' tokens.
        mask_SC: True for tokens of the condition that are seen; none for no condition.
        lengths: Tokens of each sequence if they are laid end to end in one row; None for a row
            per sequence.
        held_BT: 1 for tokens and 0 for padding, if the padding's beta is to be 1.
        unconditioned: Whether some row has no condition; False saves a product with ones.
    """
    hypers = [cast(Hypernetwork, module) for module in hypernetworks]
    some_S = mask_SC.any(1)
    mask_SC = mask_SC.clone()
    mask_SC[:, 0] |= ~some_S  # something to look at: a softmax over nothing is no number
    pairs = [hyper.project(embedded_SCD) for hyper in hypers]
    keys, values = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if lengths is None:
        mask, rows = mask_SC[:, None, None], some_S[:, None, None]
    else:
        sequences = torch.arange(len(lengths), device=mask_SC.device)
        owner_N = sequences.repeat_interleave(
            torch.tensor(lengths, device=mask_SC.device), output_size=sum(lengths)
        )
        own_NS = owner_N[:, None] == sequences
        mask = (own_NS[:, :, None] & mask_SC).flatten(1)[None, None]
        rows = some_S[owner_N][None, :, None]
        keys, values = ([_one_row(x) for x in part] for part in (keys, values))
    if held_BT is not None:
        rows, unconditioned = rows & held_BT.bool()[:, :, None], True
    return Gating(hypers, keys, values, mask, rows if unconditioned else None)


def _one_row(x_SHCR: Tensor) -> Tensor:
    """Lay the keys or values of all sequences end to end: `(1, H, S C, R / H)`."""
    return x_SHCR.transpose(0, 1).flatten(1, 2)[None]
