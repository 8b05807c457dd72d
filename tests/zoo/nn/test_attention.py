"""Masked attention whose heads share keys: that of transformers, without a copy per head."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from zoo.nn.attention import varlen_attention

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


@pytest.mark.parametrize("queries", [1, 7])
def test_masked_heads_of_a_group_read_the_same_keys(queries: int) -> None:
    q, k, v, mask = drawn(queries)
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


def test_what_is_not_plain_attention_goes_to_the_stock_code() -> None:
    q, k, v, mask = drawn(7)
    with pytest.raises(ValueError, match="softcap"):
        varlen_attention(LAYER, q, k, v, mask, softcap=30.0)
