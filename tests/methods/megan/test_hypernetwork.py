"""MeGan's hypernetwork: how it starts, sizes that do not fit, packed conditions, padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from zoo.errors import InputError
from zoo.methods.megan.gate_function import make_delta
from zoo.methods.megan.gated_swiglu import Gating, condition
from zoo.methods.megan.hypernetwork import Hyper, Hypernetwork, build


def test_every_parameter_is_drawn_anew() -> None:
    """Biases become zero and weights are drawn, the attention's packed map among them."""
    hyper = Hypernetwork(64, 96, layers=5, bottleneck=48, head_bias=True)
    with torch.no_grad():
        for parameter in hyper.parameters():
            parameter.fill_(7.0)
    hyper.initialise(0.02, "official")
    for name, parameter in hyper.named_parameters():
        assert parameter.any() != name.endswith("bias"), name
        assert parameter.abs().max() < 1, name


class Config:
    hidden_size, intermediate_size, num_hidden_layers, initializer_range = 64, 96, 5, 0.02


def test_initialisation() -> None:
    """Normal(0.02), zero biases, Xavier-uniform packed map; beta near 1 and not 1, or exactly 1."""
    (hyper,) = build(Hyper(bottleneck=48, head_bias=True), Config, torch.device("cpu"))
    for name, parameter in hyper.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif name == "attention.in_proj_weight":
            limit = (6 / (48 + 3 * 48)) ** 0.5
            assert 0.95 * limit < float(parameter.abs().max()) <= limit
        else:
            assert float(parameter.std()) == pytest.approx(0.02, rel=0.15), name
    embedded = 0.1 * torch.randn(1, 6, 64)
    for init, is_one in (("official", False), ("zero", True)):
        (hyper,) = build(Hyper(bottleneck=48, beta_init=init), Config, torch.device("cpu"))
        state = hyper(torch.randn(1, 7, 64), *hyper.project(embedded), None, 3)
        delta = make_delta(hyper.head(state), None)
        assert bool((delta == 0).all()) == is_one
        assert float(delta.abs().max()) < 0.05
    state.sum().backward()
    loss = make_delta(hyper.head(state.detach()), None).sum()
    assert torch.autograd.grad(loss, hyper.head.weight)[0].any()  # a zero start can be left


def test_one_for_each_block_has_no_layer_embedding() -> None:
    many = build(Hyper(bottleneck=8, shared=False), Config, torch.device("cpu"))
    assert len(many) == 5
    assert all(one.layer_embedding is None for one in many)
    assert not torch.equal(many[0].head.weight, many[1].head.weight)


def test_frozen_layer_embedding() -> None:
    (hyper,) = build(Hyper(bottleneck=8, freeze_layer_emb=True), Config, torch.device("cpu"))
    frozen = [n for n, p in hyper.named_parameters() if not p.requires_grad]
    assert frozen == ["layer_embedding.weight"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bottleneck": -1}, "bottleneck: -1 is less than 0"),
        ({"heads": 0}, "heads: 0 is less than 1"),
        ({"heads": 2}, "heads: 2, but a bottleneck has 1; set bottleneck to 0 for more"),
        ({"heads": 5, "bottleneck": 0}, "heads: 5 do not divide the backbone's width 64"),
        ({"beta_init": "zeros"}, "beta_init: 'zeros'; did you mean 'zero'?"),
    ],
)
def test_sizes_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"model\.hyper\." + said.replace("?", r"\?")):
        Hyper(**options).check(64)
    Hyper(bottleneck=0, heads=4).check(64)


def test_gating_of_packed_sequences_looks_at_its_own_condition() -> None:
    """The mask lets a token see its own sequence's words and no padding, in any order of sizes."""
    (hyper,) = build(Hyper(bottleneck=8), Config, torch.device("cpu"))
    words = torch.randn(3, 4, 64)
    shown = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    gating = condition([hyper], words, shown, lengths=[2, 3, 1])
    assert gating.mask.shape == (1, 1, 6, 12)
    own = [[0, 1], [0, 1], [4], [4], [4], [8, 9, 10, 11]]  # the second looks at one token, unused
    assert [row.nonzero().flatten().tolist() for row in gating.mask[0, 0]] == own
    assert gating.rows is not None
    assert gating.rows.flatten().tolist() == [True, True, False, False, False, True]
    x = torch.randn(1, 6, 64)
    packed = hyper(x, gating.keys[0], gating.values[0], gating.mask, 2)
    for i, part in ((0, slice(0, 2)), (2, slice(5, 6))):
        keys, values = hyper.project(words[i : i + 1, : int(shown[i].sum())])
        torch.testing.assert_close(packed[:, part], hyper(x[:, part], keys, values, None, 2))


def test_no_product_with_ones_where_all_have_a_condition() -> None:
    """Unless padding's beta has to be 1."""
    hypers = build(Hyper(bottleneck=8), Config, torch.device("cpu"))
    words, shown = torch.randn(2, 3, 64), torch.ones(2, 3, dtype=torch.bool)
    assert condition(hypers, words, shown, unconditioned=False).rows is None
    held = torch.tensor([[1, 1], [1, 0]])
    padded = condition(hypers, words, shown, held_BT=held, unconditioned=False).rows
    assert padded is not None
    assert padded.flatten().tolist() == [True, True, True, False]
    shown[1] = False
    some = condition(hypers, words, shown).rows
    assert some is not None
    assert some.flatten().tolist() == [True, False]


def test_penalty_leaves_padding_out() -> None:
    (hyper,) = build(Hyper(bottleneck=8), Config, torch.device("cpu"))
    words, shown = torch.randn(2, 3, 64), torch.ones(2, 3, dtype=torch.bool)
    held = torch.tensor([[1, 1, 1], [1, 0, 0]])
    x, gate = torch.randn(2, 3, 64), torch.randn(2, 3, 96)
    gating: Gating = condition([hyper], words, shown, held_BT=held, unconditioned=False)
    gating.sizes = {}
    gating(1, x, gate, gate, None)
    state = hyper(x, gating.keys[0], gating.values[0], gating.mask, 1)
    delta = make_delta(hyper.head(state), held[:, :, None])
    torch.testing.assert_close(gating.size(), delta.abs().sum())
    assert bool((delta[0] != 0).all())
