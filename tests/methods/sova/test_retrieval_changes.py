"""Settings and weights that change after the first use: what is retrieved follows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.sova.graph_parts import TABLE, TEXTS
from torch import nn
from torch.distributed.fsdp import FSDPModule

from zoo.cache import quick_weights_digest
from zoo.methods.sova.index import ValueIndex
from zoo.records import Dilemma


@pytest.fixture
def agent(make: Any) -> Any:
    return make("SoVA", "tiny-llama", threshold=1.0, max_length=16384, read_text=False)


def test_settings_changed_after_the_first_use_count(
    agent: Any, dilemmas: list[Dilemma], tmp_path: Path
) -> None:
    """And without a change nothing is made anew."""
    records = dilemmas[:1]
    (first,) = agent.generate(records)
    made = agent.retrieval
    assert len(first.instructions) > 1
    assert agent.generate(records) == [first]
    assert agent.retrieval is made
    agent.top_n = 1
    assert agent.generate(records)[0].instructions == first.instructions[:1]
    agent.threshold = 100.0
    assert agent.generate(records)[0].instructions == ()
    agent.threshold, agent.top_n = 1.0, 100
    assert agent.generate(records) == [first]
    ValueIndex.build(tmp_path / "i", TABLE, TEXTS, max_size=4)
    agent.index, agent.theory = str(tmp_path / "i"), "virtue"
    known = {report.id for report in ValueIndex.open(tmp_path / "i").reports_of("virtue")}
    assert {item.report_id for item in agent.generate(records)[0].instructions} <= known


def add_in_place(lm: nn.Module) -> None:
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)


def add_to_data(lm: nn.Module) -> None:
    for parameter in lm.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)


def train(lm: nn.Module) -> None:
    """A step of the optimiser that the zoo takes."""
    optimizer = torch.optim.AdamW(lm.parameters(), lr=0.3, fused=True)
    lm(torch.tensor([[5, 6, 7]])).logits.square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("change", [add_in_place, add_to_data, train])
def test_scores_are_those_of_the_weights_of_now(
    agent: Any, dilemmas: list[Dilemma], change: Callable[[nn.Module], None]
) -> None:
    def scores() -> list[tuple[str, float]]:
        (answer,) = agent.generate(dilemmas[:1])
        return [(item.report_id, item.score) for item in answer.instructions]

    before = scores()
    change(agent.lm)
    after = scores()
    assert after != before
    agent.forget_retrieval()
    assert scores() == after


def test_one_number_that_is_changed_in_place_is_seen() -> None:
    layer = nn.Linear(999, 999)
    before = quick_weights_digest(layer.parameters())
    assert quick_weights_digest(layer.parameters()) == before
    with torch.no_grad():
        layer.weight[1, 1] += 1
    assert quick_weights_digest(layer.parameters()) != before
    with torch.inference_mode():
        assert quick_weights_digest([torch.ones(2)]) != quick_weights_digest([torch.zeros(2)])


def test_training_sharded_weights_forgets_their_vectors(make: Any, dilemmas: list[Dilemma]) -> None:
    """No process can see by itself that they have changed."""
    module = make(
        "SoVA", "tiny-llama", kind="retriever", max_length=8192, backbone={"lora": {"rank": 2}}
    )
    module.__class__ = type("Sharded", (FSDPModule, type(module)), {})
    made = module.retrieval
    assert module.retrieval is made
    encoder = module.encoder()
    module.losses(encoder.collate([e for d in dilemmas for e in encoder(d)], {}))
    assert module.retrieval is not made
