"""M3-JEPA's gate: the experts of a token, their weights, a branch's own choice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods.m3_jepa.m3_jepa_reference import Reference
from methods.m3_jepa.m3_jepa_samples import I2T, WAYS, batch_of, make, our_step, our_vectors, pairs
from torch import Tensor

# -- 3 and 4: the gate -------------------------------------------------------------------------


def routed(module: Any, batch: Any, way: str) -> tuple[Tensor, list[Tensor]]:
    """Run a direction; return the transcription's X, `(T, H)`, and each branch's weights, dense."""
    with torch.no_grad():
        our_vectors(module, batch, way)
        x = Reference(module).enter(Reference(module).states(batch, way.split("2")[0]), way)
    mask = batch.inputs[way.split("2")[0]].get("attention_mask")
    x = x.flatten(0, 1) if mask is None else x[mask.bool()]
    dense = []
    for routing in module.predictor.routings:
        weights = torch.zeros(len(x), module.predictor.gate.out_features)
        dense.append(weights.scatter(1, routing.chosen_TK, routing.weights_TK.detach()))
    return x, dense


@pytest.mark.fidelity("m3_jepa", 3)
@pytest.mark.parametrize("way", WAYS)
def test_four_of_twelve_weights_as_the_softmax_gives_them(
    towers: tuple[str, str], way: str
) -> None:
    """Four non-zero weights per token, summing to less than one, each its share among twelve."""
    module = make(towers, spread=5.0)
    x, dense = routed(module, batch_of(module, pairs(5)), way)
    assert len(dense) == 2
    for branch, weights in enumerate(dense):
        assert ((weights > 0).sum(1) == 4).all()
        assert (weights.sum(1) < 1).all()
        full = Reference(module).gate(x, branch)
        assert full.shape == (len(x), 12)
        threshold = full.sort(1).values[:, -4:-3]
        expected = torch.where(full >= threshold, full, torch.zeros(()))
        torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.fidelity("m3_jepa", 3)
def test_experts_that_are_not_chosen_have_no_say(towers: tuple[str, str]) -> None:
    """What an expert would make of tokens of others neither changes the output nor is learned."""
    module = make(towers, spread=5.0, num_experts=40)
    batch = batch_of(module, pairs(2))
    _, dense = routed(module, batch, I2T)
    used = (torch.cat(dense) > 0).any(0)
    assert not used.all()
    with torch.no_grad():
        before = our_vectors(module, batch, I2T)
        module.predictor.experts.up_NHH[~used] = 1e3
        after = our_vectors(module, batch, I2T)
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    _, found = our_step(module, batch, 0)
    gradient = found["predictor.experts.down_NHH"]
    assert gradient is not None
    assert not gradient[~used].any()
    assert gradient[used].any()


@pytest.mark.fidelity("m3_jepa", 4)
@pytest.mark.parametrize("gate_input", ["add", "concat"])
def test_branches_route_apart_unless_their_vectors_are_equal(
    towers: tuple[str, str], gate_input: str
) -> None:
    """The gate is one; e_reg and e_cl alone make the difference on the same token."""
    module = make(towers, spread=5.0, gate_input=gate_input)
    batch = batch_of(module, pairs(5))
    for way in WAYS:
        _, (reg, cl) = routed(module, batch, way)
        assert (reg != cl).any(1).all(), "a token has the same weights in both"
        assert ((reg > 0) != (cl > 0)).any(1).float().mean() > 0.2, "other experts too, often"
    with torch.no_grad():
        module.predictor.branch_vectors[1].copy_(module.predictor.branch_vectors[0])
    for way in WAYS:
        _, (reg, cl) = routed(module, batch, way)
        assert torch.equal(reg, cl)


# -- the options of section 6 ------------------------------------------------------------------


def test_concat_and_add_agree_at_the_gate(towers: tuple[str, str]) -> None:
    """g [X ; e] with both halves of g alike is g (X + e): the same softmax, the same choice.

    The experts' input is what differs: X + e_b as released, X as the paper writes it.
    """
    add = make(towers, spread=5.0)
    concat = make(towers, spread=5.0, gate_input="concat")
    state = add.state_dict()
    weight = state["predictor.gate.weight"]
    concat.load_state_dict({**state, "predictor.gate.weight": torch.cat([weight, weight], 1)})
    batch = batch_of(add, pairs(5))
    for way in WAYS:
        (x, ours), (_, theirs) = routed(add, batch, way), routed(concat, batch, way)
        for branch in (0, 1):
            torch.testing.assert_close(ours[branch], theirs[branch], rtol=1e-5, atol=1e-6)
            full = Reference(concat).gate(x, branch, concat=True)
            chosen = full.where(theirs[branch] > 0, torch.zeros(()))
            torch.testing.assert_close(theirs[branch], chosen, rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            found = our_vectors(concat, batch, way)
            expected = Reference(concat).vectors(batch, way, 4, concat=True, masked=True)
            for name, want in expected.items():
                torch.testing.assert_close(getattr(found, name), want, rtol=1e-5, atol=1e-5)
            assert not torch.allclose(found.source, our_vectors(add, batch, way).source, atol=1e-3)
