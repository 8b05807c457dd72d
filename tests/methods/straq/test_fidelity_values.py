"""straQ*'s values: read off the language model alone, in one pass, whatever the padding."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from methods.straq.straq_dialogue import DIALOGUE, LORA
from methods.straq.straq_reference import NAMES, Reference, prompt

from zoo.support.decisions import decisions

READOUTS = ("mean_logit", "mean_logprob", "token_prob")


class Passes:
    """Counts the forward passes of the first block."""

    def __init__(self, module: Any) -> None:
        self.count = 0
        self.hook = module.lm.model.layers[0].register_forward_hook(self._add)

    def _add(self, *_: Any) -> None:
        self.count += 1


# -- 1: no parameter beyond the language model -------------------------------------------------


@pytest.mark.fidelity("straq", 1)
@pytest.mark.parametrize("readout", READOUTS)
def test_the_planner_is_the_language_model(make: Any, shape: str, readout: str) -> None:
    """Parameters, buffers and state are those of the bare backbone, a target copy included."""
    from zoo.backbone import Backbone, load

    module = make("StraQ", shape, readout=readout)
    module.target.sync(module)
    plain, _ = load(Backbone(shape))
    names = {f"lm.{name}" for name in plain.state_dict()}
    assert set(module.state_dict()) == names
    assert {n for n, _ in module.named_parameters()} == {
        f"lm.{n}" for n, _ in plain.named_parameters()
    }
    metrics = sum(1 for _ in module.metrics.modules())  # scores, without weights or state
    assert sum(1 for _ in module.modules()) == sum(1 for _ in plain.modules()) + 1 + metrics


@pytest.mark.fidelity("straq", 1)
def test_with_adapters_only_they_are_new(make: Any, shape: str) -> None:
    """New parameters are LoRA's; they alone are trained and copied."""
    module = make("StraQ", shape, backbone={"lora": LORA})
    module.target.sync(module)
    known = {n.replace(".base_layer", "") for n in module.state_dict() if "lora_" not in n}
    assert known == set(make("StraQ", shape).state_dict())
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    assert trained == {n for n in module.state_dict() if "lora_" in n}
    assert set(module.target.values) == trained


# -- 2: one pass, eight values, argmax ---------------------------------------------------------


@pytest.mark.fidelity("straq", 2)
@pytest.mark.parametrize("readout", READOUTS)
def test_one_pass_gives_the_eight_scores(make: Any, shape: str, readout: str) -> None:
    """The values are the reference's; the plan is the largest; nothing is drawn at random."""
    module = make("StraQ", shape, spread=6.0, readout=readout)
    passes, before = Passes(module), torch.get_rng_state()
    found = decisions(DIALOGUE)
    plans = module.plan(found)
    assert passes.count == 1
    assert torch.equal(torch.get_rng_state(), before)
    reference = Reference(module, readout)
    for stop, plan in zip((1, 3, 4, 6), plans, strict=True):
        with torch.no_grad():
            expected = reference.values(prompt(DIALOGUE, stop))
        torch.testing.assert_close(torch.tensor(plan.values), expected, rtol=1e-4, atol=1e-5)
        assert plan.strategy == NAMES[int(expected.argmax())]
    assert len({plan.values for plan in plans}) == 4
    assert module.plan(found) == plans


@pytest.mark.fidelity("straq", 2)
def test_the_first_of_equal_values_wins(make: Any, shape: str) -> None:
    module = make("StraQ", shape)
    rows = torch.tensor([[0.0, 2, 1, 2, 2, 0, 0, 0], [3.0] * 8])
    assert [plan.strategy for plan in module.plans(rows)] == [NAMES[1], NAMES[0]]


# -- 7: padding --------------------------------------------------------------------------------


@pytest.mark.fidelity("straq", 7)
@pytest.mark.parametrize("readout", [*READOUTS, "value_head"])
def test_padding_changes_no_value(make: Any, shape: str, readout: str) -> None:
    """A prompt alone, right-padded among longer ones, and packed: the same values."""
    padded = make("StraQ", shape, spread=6.0, readout=readout, padding_free=False)
    packed = make("StraQ", shape, spread=6.0, readout=readout)
    packed.load_state_dict(padded.state_dict())
    rows = [padded.encoder().state(decision) for decision in decisions(DIALOGUE)]
    rows.append(rows[0][-40:])
    random.Random(0).shuffle(rows)
    with torch.no_grad():
        together = padded(padded.encoder().prompts(rows))
        laid = packed(packed.encoder().prompts(rows))
        alone = torch.cat([padded(padded.encoder().prompts([row])) for row in rows])
    assert padded.encoder().prompts(rows).attention_mask.sum(1).tolist() == [*map(len, rows)]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(laid, alone, rtol=1e-4, atol=1e-5)
    assert together.std(0).min() > 1e-4 * together.abs().max()
