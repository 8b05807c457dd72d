"""FlashAttention on the CPU: functions with the signatures of its packages and torch inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from training import batch_of
from transformers import AttentionInterface, AttentionMaskInterface
from transformers import modeling_flash_attention_utils as flash
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.masking_utils import flash_attention_mask

from zoo.nn.attention import read_lengths

Window = tuple[int, int]


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool, window: Window) -> Tensor:
    """Attention of one sequence, `(T, H, C)`; the last query stands at the last key."""
    assert q.dtype in (torch.bfloat16, torch.float16), "the kernels read half precision only"
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1).float() for x in (k, v))
    rows = torch.arange(len(q))[:, None] + len(k) - len(q)
    distance = rows - torch.arange(len(k))
    seen = (distance >= 0) | (not causal)
    seen &= (distance <= window[0]) | (window[0] < 0)
    scores = torch.einsum("thc,lhc->htl", q.float(), k) * scale
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("htl,lhc->thc", weights, v).to(q.dtype)


def pieces(x: Tensor, offsets: Tensor) -> list[Tensor]:
    assert offsets.dtype == torch.int32
    assert offsets[-1] == len(x), "not every token is in a sequence"
    return list(x.split(offsets.diff().tolist()))


class Package2:
    """The functions of flash-attn."""

    @staticmethod
    def flash_attn_varlen_func(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0,
        softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None,
        deterministic=False, return_attn_probs=False, block_table=None,
    ):  # fmt: skip
        assert max_seqlen_q == cu_seqlens_q.diff().max()
        parts = (pieces(q, cu_seqlens_q), pieces(k, cu_seqlens_k), pieces(v, cu_seqlens_k))
        rows = zip(*parts, strict=True)
        return torch.cat([attend(*row, softmax_scale, causal, window_size) for row in rows])

    @staticmethod
    def flash_attn_func(
        q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1),
        softcap=0.0, alibi_slopes=None, deterministic=False, return_attn_probs=False,
    ):  # fmt: skip
        rows = zip(q, k, v, strict=True)
        return torch.stack([attend(*row, softmax_scale, causal, window_size) for row in rows])


class Package3:
    """Those of FlashAttention 3, which know no dropout and may return the normalisers, too."""

    @staticmethod
    def flash_attn_varlen_func(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, seqused_q=None,
        seqused_k=None, softmax_scale=None, causal=False, qv=None, window_size=(-1, -1),
        attention_chunk=0, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False,
        sm_margin=0,
    ):  # fmt: skip
        lengths = (cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
        options = {"softmax_scale": softmax_scale, "causal": causal, "window_size": window_size}
        return Package2.flash_attn_varlen_func(q, k, v, *lengths, **options), None

    @staticmethod
    def flash_attn_func(
        q, k, v, softmax_scale=None, causal=False, qv=None, window_size=(-1, -1),
        attention_chunk=0, softcap=0.0, num_splits=1, pack_gqa=None, deterministic=False,
        sm_margin=0,
    ):  # fmt: skip
        options = {"softmax_scale": softmax_scale, "causal": causal, "window_size": window_size}
        return Package2.flash_attn_func(q, k, v, **options), None


IMPLEMENTATIONS = {
    "flash_attention_2": Package2,
    "flash_attention_3": Package3,
    "kernels-community/flash-attn2": Package2,
}


@pytest.fixture(params=IMPLEMENTATIONS)
def use_flash(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Give a language model FlashAttention, in one of the ways that transformers knows."""
    name, package = request.param, IMPLEMENTATIONS[request.param]
    functions = (package.flash_attn_func, package.flash_attn_varlen_func, None)
    found = (*functions, flash._pad_input, flash._unpad_input)
    monkeypatch.setattr(flash, "_lazy_imports", lambda *_, **__: found)
    monkeypatch.setattr(flash, "_loaded_implementation", None)
    for kind, own in (
        (AttentionInterface, flash_attention_forward),
        (AttentionMaskInterface, flash_attention_mask),
    ):
        monkeypatch.setattr(kind, "_global_mapping", {**kind._global_mapping, name: own})

    def use(lm: Any) -> None:
        read_lengths(name)
        lm.config._attn_implementation = name

    return use


@pytest.mark.parametrize("padding_free", [True, False])
def test_training_passes(
    make: Callable[..., Any], triples: list[Any], use_flash: Callable[..., Any], padding_free: bool
) -> None:
    """States and gradients of a batch are those of sdpa, packed and padded."""
    found = []
    for change in (None, use_flash):
        module = make("MeTHanol", "tiny-llama", spread=3.0, padding_free=padding_free)
        if change:
            change(module.lm)
        batch = batch_of(module, triples)
        with torch.autocast("cpu", torch.bfloat16):
            states = [h.flatten(0, 1)[batch.labels.flatten() >= 0] for h in module(batch)]
        torch.stack([h.float().square().mean() for h in states]).sum().backward()
        found.append([*states, module.lm.model.layers[0].self_attn.v_proj.weight.grad])
    for ours, want in zip(found[1], found[0], strict=True):
        assert torch.nn.functional.cosine_similarity(ours, want).min() > 0.99


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_decoding(
    make: Callable[..., Any], triples: list[Any], use_flash: Callable[..., Any], dtype: str
) -> None:
    """A cache with holes, a chunk after a thought, one token at a time: the states of sdpa."""
    seen = []
    for change in (None, use_flash):
        module = make("MeTHanol", "tiny-llama", spread=3.0, backbone={"dtype": dtype})
        if change:
            change(module.lm)
        encoder = module.encoder()
        decoder = module.new_decoder(len(triples), [module.k, 4])
        states = []
        with torch.no_grad():
            prompts = [encoder.prompt(triple) for triple in triples]
            for ids, level in ((prompts, 0), ([[5, 6, 7], [8], [], [9]], 1), ([[7]] * 4, 1)):
                decoder.feed(ids, level)
                states.append(decoder.state())
        seen.append(torch.cat(states).float())
    assert torch.nn.functional.cosine_similarity(seen[1], seen[0]).min() > 0.99
