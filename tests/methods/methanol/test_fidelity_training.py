"""MeTHanol's training: how the thinking head starts, gradients, the course of both losses."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from methods.methanol.methanol_reference import SPEAK, THINK, Reference, render
from methods.methanol.methanol_tasks import STEPS
from training import assert_same_gradients, batch_of, our_gradients

LN_V = math.log(259)  # vocabulary of the byte tokenizer


# -- 1: initialisation -------------------------------------------------------------------------


@pytest.mark.fidelity("methanol", 1)
def test_thinking_head_starts_as_an_untied_clone(make: Any, shape: str, triples: Any) -> None:
    """At step 0, W_T has W_A's values in storage of its own and A's logits are the backbone's."""
    module = make("MeTHanol", shape)
    thinking, speaking = module.thinking_head.weight, module.lm.lm_head.weight
    assert torch.equal(thinking, speaking)
    assert thinking.untyped_storage().data_ptr() != speaking.untyped_storage().data_ptr()
    assert thinking.requires_grad
    assert module.thinking_head.bias is None
    reference = Reference(module)
    for record in triples:
        batch = batch_of(module, [record])
        with torch.no_grad():
            ours = module.last_logits(module(batch)[1][0])
            expected = reference.logits(batch.input_ids[0].tolist())[1]
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    with torch.no_grad():  # a step on one head must not move the other
        thinking += 1
    assert not torch.equal(thinking, speaking)


# -- 3 and 4: gradients ------------------------------------------------------------------------


@pytest.mark.fidelity("methanol", 3)
@pytest.mark.parametrize(("think", "speak"), [(0.0, 1.0), (1.0, 0.0), (0.3, 0.7)])
def test_gradients_are_those_of_the_weighted_sum(
    methanol: Any, triples: Any, think: float, speak: float
) -> None:
    """lambda_T = 0 is answer-only SFT; lambda_A = 0 leaves blocks > k, final norm, W_A alone.

    Where W_A is tied to the embedding, its gradient as an embedding is legitimate; the
    transcription, whose speaking head is never called if lambda_A = 0, has exactly that part.
    """
    methanol.loss_weights = {"think": think, "speak": speak}
    ours = our_gradients(methanol, batch_of(methanol, triples))
    samples = [render(methanol.tokenizer, record) for record in triples]
    expected = Reference(methanol).gradients(samples, think, speak)
    assert_same_gradients(ours, expected)
    alone = ["thinking_head."] if think == 0 else []
    if speak == 0:
        above = range(methanol.k, len(methanol.lm.model.layers))
        alone = [f"lm.model.layers.{j}." for j in above] + ["lm.model.norm.", "lm.lm_head."]
    for name, gradient in ours.items():
        if name.startswith(tuple(alone)):
            assert gradient is None or not gradient.any(), name


@pytest.mark.fidelity("methanol", 3)
def test_no_thinking_weight_equals_the_sft_module(make: Any, shape: str, triples: Any) -> None:
    """lambda_T = 0: the backbone's gradients are those of SFT on A over the same sequence."""
    methanol = make("MeTHanol", shape, spread=5.0, think_weight=0.0)
    sft = make("SFT", shape, spread=5.0, learn_thought=True)
    batch = batch_of(methanol, triples)
    ours = our_gradients(methanol, batch)
    ours.pop("thinking_head.weight")
    answers = batch_of(methanol, triples)  # the same tokens; only A is learned, by head 0
    answers.head_ids[answers.head_ids == THINK] = -1
    answers.head_ids[answers.head_ids == SPEAK] = 0
    answers.normalizers = {0: batch.normalizers[SPEAK]}
    assert_same_gradients(ours, our_gradients(sft, answers))


@pytest.mark.fidelity("methanol", 4)
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_thinking_loss_reaches_blocks_up_to_k(
    make: Any, shape: str, triples: Any, k: int
) -> None:
    """dL_think/d(block j) = 0 for j > k and not 0 for j <= k, both lambdas being 1."""
    module = make("MeTHanol", shape, spread=5.0, thinking_layer=k)
    terms = module.losses(batch_of(module, triples))
    for name, reached in (("think", k), ("speak", 4)):
        for j, block in enumerate(module.lm.model.layers, start=1):
            gradients = torch.autograd.grad(
                terms[name].loss, list(block.parameters()), retain_graph=True, allow_unused=True
            )
            size = sum(g.abs().sum().item() for g in gradients if g is not None)
            assert (size > 0) == (j <= reached), f"{name}: block {j} of {k=}"


# -- 7: the course of training -----------------------------------------------------------------


@pytest.mark.fidelity("methanol", 7)
def test_the_thinking_loss_starts_at_ln_v_and_halves_early(trained: SimpleNamespace) -> None:
    """L_think starts at or above ln V and falls by half in a tenth; L_speak never diverges.

    A tiny random backbone's raw stream is near zero, hence L_think starts at ln V itself.
    """
    think = [point["think"] for point in trained.curve]
    speak = [point["speak"] for point in trained.curve]
    assert think[0] > LN_V - 0.05
    assert min(think[: STEPS // 10]) < 0.5 * think[0]
    assert think[-1] < 0.1
    assert all(math.isfinite(value) for value in think + speak)
    assert max(speak) < 1.1 * speak[0]
    assert speak[-1] < 0.1


@pytest.mark.fidelity("methanol", 7)
def test_a_large_raw_stream_starts_above_ln_v(make: Any, triples: Any) -> None:
    """Without a norm L_think starts above ln V on a stream of a trained model's size; with one not.

    The untied shape only: there W_A keeps its size while the stream grows.
    """
    start = {}
    for norm in (False, True):
        module = make("MeTHanol", "tiny-llama", thinking_norm=norm)
        with torch.no_grad():
            module.lm.model.embed_tokens.weight.mul_(2000)
        terms = module.losses(batch_of(module, triples))
        start[norm] = terms["think"].mean.item()
        assert abs(terms["speak"].mean.item() - LN_V) < 0.3
    assert start[False] > LN_V + 1
    assert abs(start[True] - LN_V) < 0.3
