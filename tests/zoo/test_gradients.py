"""Methods' gradients in bfloat16 point where those in float32 do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from training import batch_of, silence


def gradients(module: Any, triples: list[Any], *, autocast: bool = False) -> dict[str, Any]:
    batch = batch_of(module, triples)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = silence(module).training_step(batch, 0)
    loss.backward()
    return {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("method", ["MeTHanol", "SFT"])
@pytest.mark.parametrize("mode", ["weights", "autocast"])
def test_bfloat16_gradients(
    make: Callable[..., Any], shape: str, triples: list[Any], method: str, mode: str
) -> None:
    exact = gradients(make(method, shape, spread=3.0), triples)
    dtype = "bfloat16" if mode == "weights" else "float32"
    module = make(method, shape, spread=3.0, backbone={"dtype": dtype})
    rough = gradients(module, triples, autocast=mode == "autocast")
    assert rough.keys() == exact.keys()
    for name, want in exact.items():
        got = rough[name].float()
        assert rough[name].dtype == (torch.bfloat16 if mode == "weights" else torch.float32)
        if want.norm() < 1e-5:
            continue
        cosine = torch.nn.functional.cosine_similarity(got.flatten(), want.flatten(), dim=0)
        assert cosine > 0.98, (name, cosine)
        assert 0.9 < got.norm() / want.norm() < 1.1, name


@pytest.mark.parametrize("method", ["MeTHanol", "SFT"])
def test_packed_and_padded_training_agree(
    make: Callable[..., Any], shape: str, triples: list[Any], method: str
) -> None:
    packed = gradients(make(method, shape, spread=3.0, padding_free=True), triples)
    padded = gradients(make(method, shape, spread=3.0, padding_free=False), triples)
    for name, want in packed.items():
        scale = want.abs().max().item()
        torch.testing.assert_close(padded[name], want, rtol=1e-3, atol=1e-5 * scale + 1e-9)


def test_gradient_checkpointing_changes_nothing(
    make: Callable[..., Any], shape: str, triples: list[Any]
) -> None:
    plain = gradients(make("MeTHanol", shape, spread=3.0).train(), triples)
    options = {"backbone": {"gradient_checkpointing": True}}
    module = make("MeTHanol", shape, spread=3.0, **options).train()
    calls = []
    module.lm.model.layers[0].self_attn.register_forward_pre_hook(lambda *_: calls.append(1))
    again = gradients(module, triples)
    assert len(calls) == 2, "the block was not recomputed"
    for name, want in plain.items():
        torch.testing.assert_close(again[name], want)
