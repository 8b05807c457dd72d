"""MeTHanol's choice of k, the number of blocks below the thinking head."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
import torch
from methods.methanol.methanol_tasks import train
from training import batch_of

from zoo.records import Triple


def pointer(rng: random.Random) -> Triple:
    """Which digit follows the letter that is asked? Takes two attention steps, hence two blocks."""
    letters, digits = rng.sample("abcdef", 2), rng.sample("123456", 2)
    asked = rng.randrange(2)
    query = "".join(a + b for a, b in zip(letters, digits, strict=True)) + letters[asked]
    return Triple(query, digits[asked], ".", system="s")


@pytest.mark.fidelity("methanol", 10)
@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("tiny-llama", 240),
        pytest.param("tiny-qwen2", 900, marks=pytest.mark.slow),
        pytest.param("tiny-gemma", 900, marks=pytest.mark.slow),
    ],
)
def test_a_very_shallow_k_thinks_worse(make: Any, name: str, steps: int) -> None:
    """After equal training on thoughts that need two blocks, k = 1 has a worse L_think than k = 2.

    One block cannot look up what followed an earlier token; it can at best know which two digits
    there are, which leaves ln 2 for one of the thought's two tokens. Shapes with tied embeddings
    need more steps to learn it.
    """
    loss = {}
    for k in (1, 2):
        torch.manual_seed(0)
        rng = random.Random(0)
        module = make("MeTHanol", name, thinking_layer=k, speak_weight=0.0)
        fresh = (batch_of(module, [pointer(rng) for _ in range(24)]) for _ in range(steps))
        curve = train(module, fresh, steps, 6e-3)
        loss[k] = sum(point["think"] for point in curve[-30:]) / 30
    assert loss[1] > loss[2] + 0.1, loss


@pytest.mark.fidelity("methanol", 10)
def test_k_equal_to_the_depth_is_two_heads_on_one_layer(
    make: Any, shape: str, triples: Any
) -> None:
    """k = K: h_k is h_K; with a norm before W_T both heads give the same logits at step 0."""
    module = make("MeTHanol", shape, spread=5.0, thinking_layer=4, thinking_norm=True)
    middle, top = module(batch_of(module, triples))
    assert torch.equal(middle, top)
    assert torch.equal(module.think_logits(middle), module.last_logits(top))
    raw = make("MeTHanol", shape, spread=5.0, thinking_layer=4)
    assert not torch.allclose(raw.think_logits(middle), raw.last_logits(top))


@pytest.mark.fidelity("methanol", 10)
def test_k_is_the_number_of_blocks_below_the_thinking_head(
    make: Any, shape: str, triples: Any
) -> None:
    """h_k is entry k of the hidden-state list, entry 0 being the embeddings; the default is K/2."""
    assert make("MeTHanol", shape).k == 2
    for k, above in pairwise(range(1, 5)):
        module = make("MeTHanol", shape, spread=5.0, thinking_layer=k)
        batch = batch_of(module, triples[:1])
        states = module.lm(batch.input_ids, output_hidden_states=True).hidden_states
        torch.testing.assert_close(module(batch)[0], states[k], rtol=1e-4, atol=1e-5)
        if above < 4:
            assert not torch.allclose(module(batch)[0], states[above], atol=1e-3)
