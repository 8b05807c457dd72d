"""Attention over packed sequences without a mask, on any device.

Hugging Face's `sdpa` path turns a packed batch into an (N, N) mask; here each sequence runs its own
causal attention, so the cost is the sum of squares and no mask exists. It is registered as one
more attention implementation, the extension point that transformers documents. Unpacked input
(padded rows, decoding with a cache) goes to the stock `sdpa` code, except on a CPU, where the heads
of a group share keys in two more cases. Several masked queries: the stock code writes keys and
values out once per head. A single query without a mask (a chat, rows of one length): the stock code
leaves the heads to torch's kernel, which is slow with them in bfloat16; here the heads of a group
are laid out as queries, as the stock code does under a mask.

`flex_attention` is the same, and runs trees of tokens (`zoo.trees`) by FlexAttention: there a mask
is a list of blocks that are not empty, and no (L, L) tensor exists.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import flex_attention as torch_flex
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from zoo.errors import InputError

NAME, FLEX = "sdpa_varlen", "flex_varlen"
PACKAGES = {  # module and distribution
    "flash_attention_2": ("flash_attn", "flash-attn"),
    "flash_attention_3": ("flash_attn_interface", "flash-attn-3"),
}
OWN = {"sdpa": NAME, "flex_attention": FLEX}
"""Attention that needs no further package, and its name for transformers."""

CHANGES_SCORES = ("softcap", "position_bias", "s_aux")  # caps, biases, sinks


def implementation(attention: str) -> str:
    """Return the transformers name of an attention: `sdpa`, `flex_attention`, `flash_attention_2`.

    Raises:
        InputError: FlashAttention or FlexAttention was asked for and cannot run here.
    """
    if attention in OWN:
        if attention == "flex_attention" and not torch.cuda.is_available():
            raise InputError("backbone.attention: flex_attention trains on CUDA only; use sdpa")
        return OWN[attention]
    package, name = PACKAGES[attention]
    # Where the package lacks, transformers takes the kernel of the same name from the hub.
    found = any(importlib.util.find_spec(p) is not None for p in (package, "kernels"))
    if not found or not torch.cuda.is_available():
        raise InputError(f"backbone.attention: {attention} needs CUDA and {name}; use sdpa")
    return attention


def read_lengths(implementation: str) -> None:
    """Let a FlashAttention implementation of transformers read what the zoo gives.

    Args:
        implementation: Its name in the model's config, which for a kernel of the hub is that of
            its repository.
    """
    AttentionInterface.register(implementation, flash_attention)


def varlen_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    lengths: list[int] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each packed sequence.

    Args:
        module: The attention layer.
        query: `(1, H, N, C)`.
        key: `(1, G, N, C)`, G key/value heads.
        value: `(1, G, N, C)`.
        attention_mask: Ignored for packed input.
        scaling: Factor of the scores.
        dropout: Attention dropout.
        sliding_window: Number of last tokens seen, None for all.
        lengths: Tokens of each packed sequence; None for unpacked input.
        kwargs: Passed on to the stock path.

    Returns:
        `(1, N, H, C)` and no attention weights.

    Raises:
        ValueError: The model did not hand the lengths of a packed batch on, or it changes the
            scores in a way that this attention does not know.
    """
    unknown = [name for name in CHANGES_SCORES if kwargs.get(name) is not None]
    if lengths is not None and unknown:
        raise ValueError(f"packed attention has no {unknown[0]}")
    if lengths is None and attention_mask is not None and attention_mask.shape[-1] != key.shape[2]:
        raise ValueError("attention got neither the lengths of a packed batch nor a mask")
    if lengths is None and _shares_keys(query, key, attention_mask, kwargs):
        out = F.scaled_dot_product_attention(
            query, key, value, attention_mask, dropout, scale=scaling, enable_gqa=True
        )
        return out.transpose(1, 2).contiguous(), None
    if lengths is None and _is_one_query(query, key, attention_mask, kwargs):
        return _heads_as_queries(query, key, value, scaling, dropout), None
    if lengths is None:
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            sliding_window=sliding_window,
            **kwargs,
        )
    return _each_alone(query, key, value, lengths, scaling, dropout, sliding_window), None


def flex_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    *,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """FlexAttention under a mask of blocks; everything else as `varlen_attention`.

    Args:
        module: The attention layer.
        query: `(B, H, L, C)`.
        key: `(B, G, L, C)`, G key/value heads.
        value: `(B, G, L, C)`.
        attention_mask: A `BlockMask`; or what `varlen_attention` takes.
        scaling: Factor of the scores.
        kwargs: Passed on; a sliding window is part of a mask of blocks.

    Returns:
        `(B, L, H, C)` and no attention weights.

    Raises:
        ValueError: The model changes the scores in a way that this attention does not know.
    """
    states = (query, key, value)
    if not isinstance(attention_mask, torch_flex.BlockMask):
        return varlen_attention(module, *states, attention_mask, scaling=scaling, **kwargs)
    unknown = [name for name in CHANGES_SCORES if kwargs.get(name) is not None]
    if unknown:
        raise ValueError(f"FlexAttention over a tree has no {unknown[0]}")
    run: Any = _compiled_flex() if query.is_cuda else torch_flex.flex_attention
    grouped = query.shape[1] != key.shape[1]
    out = run(*states, block_mask=attention_mask, scale=scaling, enable_gqa=grouped)
    return out.transpose(1, 2).contiguous(), None


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    """Return FlexAttention as a kernel; without one it writes all scores out."""
    return torch.compile(torch_flex.flex_attention)


def flash_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    lengths: list[int] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """FlashAttention where its kernels can: lengths, or a mask of rows with padding or holes.

    A mask of pairs of tokens, which they take for one of rows, goes to sdpa. They compute in half
    precision only, so float32 outside of autocast is rounded to bfloat16 for them.

    Args:
        module: The attention layer.
        query: `(B, H, T, C)`.
        key: `(B, G, L, C)`, G key/value heads.
        value: `(B, G, L, C)`.
        attention_mask: `(B, L)` or None; `(B, 1, T, L)` for sdpa. Ignored for packed input.
        lengths: Tokens of each packed sequence; None for unpacked input.
        kwargs: Passed on, with the offsets of packed sequences.

    Returns:
        `(B, T, H, C)` and no attention weights.
    """
    states, given = (query, key, value), query.dtype
    if lengths is None and attention_mask is not None and attention_mask.dim() == 4:
        return varlen_attention(module, *states, attention_mask, **kwargs)
    mask = None if lengths is not None else attention_mask
    if given == torch.float32 and not torch.is_autocast_enabled(query.device.type):
        states = (query.bfloat16(), key.bfloat16(), value.bfloat16())
    out, _ = flash_attention_forward(module, *states, mask, **kwargs)
    return (out if states[0] is query else out.to(given)), None


def _each_alone(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: list[int],
    scaling: float | None,
    dropout: float,
    sliding_window: int | None,
) -> Tensor:
    """Return the causal attention of each packed sequence by itself, `(1, N, H, C)`."""
    outputs = []
    for q, k, v in zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True):
        window = sliding_window if sliding_window and sliding_window < q.shape[2] else None
        out = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if window is None else _band(q.shape[2], window, q.device),
            dropout_p=dropout,
            is_causal=window is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        outputs.append(out.transpose(1, 2))
    return torch.cat(outputs, dim=1)


def _shares_keys(query: Tensor, key: Tensor, mask: Tensor | None, more: dict[str, Any]) -> bool:
    """Say whether heads can read the keys of their group where they are, under a mask."""
    return _is_grouped(query, key, more) and mask is not None and query.shape[2] > 1


def _is_one_query(query: Tensor, key: Tensor, mask: Tensor | None, more: dict[str, Any]) -> bool:
    """Say whether the heads of a group can stand as queries that see everything."""
    return _is_grouped(query, key, more) and mask is None and query.shape[2] == 1


def _is_grouped(query: Tensor, key: Tensor, more: dict[str, Any]) -> bool:
    plain = more.get("position_bias") is None and more.get("softcap") is None
    return plain and query.device.type == "cpu" and query.shape[1] != key.shape[1]


def _heads_as_queries(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float
) -> Tensor:
    """Return the attention of one query per head, `(B, 1, H, C)`; it sees all keys."""
    rows, heads, _, width = query.shape
    grouped = query.reshape(rows, key.shape[1], -1, width)
    out = F.scaled_dot_product_attention(grouped, key, value, None, dropout, scale=scaling)
    return out.reshape(rows, 1, heads, -1)


def _band(length: int, window: int, device: torch.device) -> Tensor:
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)


AttentionInterface.register(NAME, varlen_attention)
AttentionInterface.register(FLEX, flex_attention)
for _name in (NAME, FLEX):
    AttentionMaskInterface.register(_name, sdpa_mask)
