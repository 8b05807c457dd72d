"""MeGan's parameters and products: their numbers, which layers share them, what they cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods.megan.megan_samples import Make, build, close
from torch.utils.flop_counter import FlopCounterMode

pytestmark = pytest.mark.filterwarnings("ignore:.*activation_checkpointing.*")


# -- 4: what is trained ------------------------------------------------------------------------


@pytest.mark.fidelity("megan", 4)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("r", [8, 16])
def test_number_of_parameters(make: Make, shape: str, r: int, bias: bool) -> None:
    """3(dR + R) + 3R^2 + 3R + R^2 + R + LR + Rf, + f with a bias."""
    d, f, layers = 32, 64, 4
    module = build(make, shape, {"bottleneck": r, "head_bias": bias})
    count = sum(p.numel() for p in module.parameters() if p.requires_grad)
    formula = 3 * (d * r + r) + 3 * r * r + 3 * r + r * r + r + layers * r + r * f
    assert count == formula + (f if bias else 0)
    frozen = build(make, shape, {"bottleneck": r, "head_bias": bias, "freeze_layer_emb": True})
    rest = sum(p.numel() for p in frozen.parameters() if p.requires_grad)
    assert rest == count - layers * r


@pytest.mark.fidelity("megan", 4)
def test_sizes_at_8b() -> None:
    """Llama-3.1-8B: 14.70 M at R = 512, 3.48 M at 128, 126 M at 0, 470 M one per layer."""
    from types import SimpleNamespace

    from zoo.methods.megan.hypernetwork import Hyper, build

    config = SimpleNamespace(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, initializer_range=0.02
    )

    def millions(**options: Any) -> float:
        made = build(Hyper(**options), config, torch.device("meta"))
        return sum(p.numel() for one in made for p in one.parameters()) / 1e6

    assert millions(bottleneck=512) == pytest.approx(14.70, abs=0.005)
    assert millions(bottleneck=128) == pytest.approx(3.48, abs=0.005)
    assert millions(bottleneck=0) == pytest.approx(126, abs=0.5)
    assert millions(bottleneck=512, shared=False) == pytest.approx(470, abs=0.5)


# -- 5: shared ---------------------------------------------------------------------------------


@pytest.mark.fidelity("megan", 5)
def test_layers_differ_by_their_embedding(make: Make, shape: str) -> None:
    """One parameter set; equal x and C give z that differ by e_l, equal e_l equal beta."""
    module = build(make, shape, {"bottleneck": 16})
    assert len(module.hypers) == 1
    (hyper,) = module.hypers
    own = {id(p) for p in hyper.parameters()}
    everywhere = [
        name for name, p in module.named_parameters(remove_duplicate=False) if id(p) in own
    ]
    assert len(everywhere) == len(own)
    keys, values = hyper.project(torch.randn(1, 5, 32))
    x = torch.randn(1, 7, 32)
    states = [hyper(x, keys, values, None, layer) for layer in range(4)]
    table = hyper.layer_embedding.weight
    for layer in range(1, 4):
        close(states[layer] - states[0], (table[layer] - table[0]).expand(1, 7, -1))
    with torch.no_grad():
        table[2] = table[0]
    assert torch.equal(hyper(x, keys, values, None, 2), states[0])


# -- 10: cost ----------------------------------------------------------------------------------


def flops(lm: Any, gating: Any, tokens: int, *, backward: bool) -> int:
    """Count the products of two blocks, forward or with backward, on tensors without storage."""
    from zoo.nn.blocks import Blocks

    x = torch.empty(1, tokens, lm.config.hidden_size, requires_grad=True)
    where = {"position_ids": torch.arange(tokens)[None]}
    where |= {"attention_mask": torch.empty(1, 1, 1, 1), "lengths": [tokens]}
    with FlopCounterMode(display=False) as counter:
        given = {} if gating is None else {"gating": gating()}
        out = Blocks(lm, 1, 3)(x, **where, **given)
        if backward:
            out.sum().backward()
    return counter.get_total_flops()


@pytest.mark.fidelity("megan", 10)
@pytest.mark.parametrize(("r", "percent", "formula"), [(512, 4.57, 9.961e6), (128, 1.1, 2.392e6)])
def test_overhead_at_8b(
    r: int, percent: float, formula: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Llama-3.1-8B: dR + 2R^2 + Rf products a token and layer, 4.6 % at R = 512; step < 1.15x."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoModelForCausalLM, LlamaConfig

    from zoo.methods.megan import gate_function
    from zoo.methods.megan.gated_swiglu import condition, replace_gates
    from zoo.methods.megan.hypernetwork import Hyper, build
    from zoo.nn.attention import implementation
    from zoo.nn.norm import replace_norms
    from zoo.nn.swiglu import replace_mlps

    monkeypatch.setattr(gate_function, "CPU_ELEMENTS", 2**30)
    d, f, words, tokens, layers = 4096, 14336, 30, 512, 2
    config = LlamaConfig(
        hidden_size=d,
        intermediate_size=f,
        num_hidden_layers=layers + 1,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=8,
    )
    with FakeTensorMode():
        lm = AutoModelForCausalLM.from_config(config, attn_implementation=implementation("sdpa"))
        replace_norms(lm)
        replace_mlps(lm)
        plain = {b: flops(lm, None, tokens, backward=b) for b in (False, True)}
        replace_gates(lm)
        assert flops(lm, None, tokens, backward=False) == plain[False]
        hypers = torch.nn.ModuleList(build(Hyper(bottleneck=r), config, torch.device("cpu")))

        def gating() -> Any:
            shown = torch.ones(1, words, dtype=torch.bool)
            embedded = torch.empty(1, words, d)
            return condition(hypers, embedded, shown, lengths=[tokens], unconditioned=False)

        ours = {b: flops(lm, gating, tokens, backward=b) for b in (False, True)}
    once = words * (2 * d * r + 2 * r * r)  # keys and values, for all layers
    per_token = ((ours[False] - plain[False]) / 2 - once) / (layers * tokens)
    assert per_token == pytest.approx(formula, rel=1e-3)  # the counter leaves out attention proper
    block = 2 * d * d + 2 * d * (d // 4) + 3 * d * f  # 218 M products
    assert 100 * formula / block == pytest.approx(percent, abs=0.02)
    assert 100 * (ours[False] / plain[False] - 1) == pytest.approx(percent, rel=0.02)
    assert ours[True] / plain[True] <= 1.15
