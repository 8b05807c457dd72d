"""Masked attention whose heads share keys: that of transformers, without a copy per head."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from zoo.errors import InputError
from zoo.nn import attention
from zoo.nn.attention import NAME, implementation, varlen_attention

B, H, G, L, C = 2, 6, 2, 40, 8
LAYER: Any = SimpleNamespace(num_key_value_groups=H // G, is_causal=True)


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that is made."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and look at what it returns."""
        out = func(*args, **(kwargs or {}))
        found = out if isinstance(out, tuple) else (out,)
        sizes = [one.untyped_storage().nbytes() for one in found if isinstance(one, Tensor)]
        self.size = max(self.size, *sizes, 0)
        return out


def drawn(queries: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return queries, keys and values, and a causal mask with holes."""
    generator = torch.Generator().manual_seed(queries)
    q, k, v = (
        torch.randn(B, heads, length, C, generator=generator, requires_grad=True)
        for heads, length in ((H, queries), (G, L), (G, L))
    )
    before = torch.arange(L) <= torch.arange(L - queries, L)[:, None]
    held = torch.rand(B, 1, 1, L, generator=generator) > 0.3
    return q, k, v, (before & held) | torch.eye(L, dtype=torch.bool)[-queries:]


@pytest.mark.parametrize(("queries", "masked"), [(1, True), (7, True), (1, False)])
def test_heads_of_a_group_read_the_same_keys(queries: int, masked: bool) -> None:
    q, k, v, mask = drawn(queries)
    mask = mask if masked else None
    weights = torch.randn(B, queries, H, C)
    found = []
    for attend in (varlen_attention, sdpa_attention_forward):
        out, _ = attend(LAYER, q, k, v, mask, scaling=0.3)
        found.append((out, *torch.autograd.grad((out * weights).sum(), (q, k, v))))
    for ours, stock in zip(*found, strict=True):
        torch.testing.assert_close(ours, stock)


def test_no_keys_are_written_out_per_head() -> None:
    q, k, v, mask = (x.detach() for x in drawn(7))
    per_head = B * H * L * C * 4
    sizes = []
    for attend in (varlen_attention, sdpa_attention_forward):
        with Largest() as largest:
            attend(LAYER, q, k, v, mask)
        sizes.append(largest.size)
    assert sizes[0] < per_head <= sizes[1]


def test_one_query_without_a_mask_stands_as_a_query_for_each_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So torch's kernel reads the keys of a group once."""
    q, k, v, _ = (x.detach() for x in drawn(1))
    attend, shapes = attention.F.scaled_dot_product_attention, []

    def watched(query: Tensor, *given: Any, **options: Any) -> Tensor:
        shapes.append(tuple(query.shape))
        return attend(query, *given, **options)

    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", watched)
    varlen_attention(LAYER, q, k, v, None)
    assert shapes == [(B, G, H // G, C)]


def test_what_is_not_plain_attention_goes_to_the_stock_code() -> None:
    q, k, v, mask = drawn(7)
    with pytest.raises(ValueError, match="softcap"):
        varlen_attention(LAYER, q, k, v, mask, softcap=30.0)


def test_a_batch_without_lengths_and_mask_is_refused() -> None:
    """Of a packed batch whose lengths a model dropped there is a mask without entries left."""
    q, k, v, _ = drawn(7)
    with pytest.raises(ValueError, match="neither the lengths of a packed batch nor a mask"):
        varlen_attention(LAYER, q, k, v, torch.empty(1, 1, 0, 0))


@pytest.mark.parametrize(
    ("package", "cuda", "works"),
    [("flash_attn", True, True), ("kernels", True, True), ("", True, False)]
    + [("flash_attn", False, False), ("flash_attn_interface", True, False)],
)
def test_flash_attention_needs_cuda_and_a_package(
    package: str, cuda: bool, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own, or the one that fetches kernels; sdpa needs none."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package == name or None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert implementation("sdpa") == NAME
    if works:
        assert implementation("flash_attention_2") == "flash_attention_2"
    else:
        said = "backbone.attention: flash_attention_2 needs CUDA and flash-attn; use sdpa"
        with pytest.raises(InputError, match=said):
            implementation("flash_attention_2")


@pytest.mark.parametrize("window", [None, 3, 7, 50])
def test_each_packed_sequence_has_its_own_causal_window(window: int | None) -> None:
    """Of 2, 9 and 1 tokens, a token sees itself and those less than a window before it."""
    lengths, heads = [2, 9, 1], 4
    q, k, v = (torch.randn(1, h, 12, C) for h in (heads, 2, 2))
    sequence = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    distance = torch.arange(12)[:, None] - torch.arange(12)
    seen = (sequence[:, None] == sequence) & (distance >= 0) & (distance < (window or 99))
    wanted, _ = sdpa_attention_forward(
        SimpleNamespace(num_key_value_groups=2, is_causal=False),
        q,
        k,
        v,
        seen[None, None],
        scaling=0.2,
    )
    found, _ = varlen_attention(
        LAYER, q, k, v, None, scaling=0.2, lengths=lengths, sliding_window=window
    )
    torch.testing.assert_close(found, wanted)
