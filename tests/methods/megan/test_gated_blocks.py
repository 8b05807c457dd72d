"""Blocks with a bent gate: recomputed and compiled ones, those without SwiGLU, a free beta."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from methods.megan.megan_samples import Make

from zoo.errors import InputError
from zoo.methods.megan.gated_swiglu import StaticGating, replace_gates
from zoo.records import Conditioned


def two_batches(module: Any) -> list[Any]:
    """Return two batches with different conditions and lengths."""
    from zoo.encoding import sum_head_weights

    texts = [("warm", "Hi", "yes"), ("very cold indeed", "Why is that so", "no")]
    found = []
    for i in range(2):
        records = [Conditioned(c + "!" * i, p, r) for c, p, r in texts[i:] + texts[: i + 1]]
        examples = [e for record in records for e in module.encoder()(record)]
        found.append(module.encoder().collate(examples, sum_head_weights(examples)))
    return found


@pytest.mark.parametrize("shared", [True, False])
def test_recomputed_blocks_see_their_own_condition(make: Make, shared: bool) -> None:
    """Two forward passes before one backward pass: the first one's recomputation comes last."""
    hyper, found = {"bottleneck": 8, "shared": shared}, []
    state: dict[str, Any] = {}
    for again in (False, True):
        backbone = {"gradient_checkpointing": again}
        module = make(
            "MeGan", "tiny-llama", spread=5.0, hyper=hyper, backbone=backbone, lambda_beta=1e-4
        )
        state = state or copy.deepcopy(module.state_dict())
        module.load_state_dict(state)
        module.log = lambda *args, **kwargs: None
        module.train()
        losses = [module.training_step(batch, 0) for batch in two_batches(module)]
        torch.stack(losses).sum().backward()
        found.append({n: p.grad for n, p in module.named_parameters() if p.grad is not None})
    plain, recomputed = found
    assert plain.keys() == recomputed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-6, atol=1e-9)


def test_compiled_blocks(make: Make) -> None:
    """A compiled block takes the gating as its argument; values and gradients stay."""
    module = make("MeGan", "tiny-llama", spread=5.0, hyper={"bottleneck": 8})
    module.log = lambda *args, **kwargs: None
    batches, found = two_batches(module), []
    for compiled in (False, True):
        if compiled:
            for block in module.blocks():
                block.compile(backend="eager")
        module.zero_grad()
        losses = [module.training_step(batch, 0) for batch in batches]
        torch.stack(losses).sum().backward()
        found.append([p.grad.clone() for p in module.hypers.parameters()])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-9)


def test_a_backbone_without_swiglu(make: Make) -> None:
    module = make("SFT", "tiny-gemma")
    with pytest.raises(InputError, match="block 0 of GemmaForCausalLM has no SwiGLU"):
        replace_gates(module.lm)


def test_static_gating() -> None:
    """Equation (4) with a free beta, and its mean by block."""
    beta = 0.6 + 0.8 * torch.rand(3, 8)
    gate, up = torch.randn(1, 4, 8), torch.randn(1, 4, 8)
    gating = StaticGating(beta)
    out = gating(1, torch.empty(0), gate, up, None)
    torch.testing.assert_close(out, gate * torch.sigmoid(beta[1] * gate) * up)
    down = torch.randn(5, 8)
    torch.testing.assert_close(gating(1, torch.empty(0), gate, up, down), out @ down.t())
    assert gating.mean_betas(torch.ones(2, 4)).tolist() == [beta.mean(1).tolist()] * 2
