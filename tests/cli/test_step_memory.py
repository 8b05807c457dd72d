"""What `check` counts of a step: the bytes that the same step holds with values."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from datamodules import ConditionedChat, FalseBelief
from zoo.cli.listing import memory
from zoo.cli.step_memory import LiveBytes, UncountableError, forget_content, step_bytes

METHODS: dict[str, dict[str, Any]] = {
    "SFT": {},
    "MeTHanol": {"thinking_layer": 1},
    "HdLM": {"layers": [1], "guide": ["thought"]},
}


def test_live_bytes() -> None:
    counter = LiveBytes()
    with counter:
        first = torch.zeros(100)
        first.view(10, 10).add_(1)
        second = first + 1
        assert counter.live == counter.peak == 800
        del first
        assert (counter.live, counter.peak) == (400, 800)
        second = second * 2
        assert (counter.live, counter.peak) == (400, 800)
        kept = [second, torch.zeros(1000, dtype=torch.bfloat16)]
    assert len(kept) == 2
    assert (counter.live, counter.peak) == (2400, 2400)


def test_content_is_forgotten() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(3, 4))
    module[2].weight = module[0].weight
    module[2].bias.requires_grad_(False)
    module.half()
    forget_content(module)
    assert module[2].weight is module[0].weight
    assert module[0].weight.shape == (4, 3)
    assert module[0].weight.dtype == torch.float16
    assert module[0].bias.requires_grad
    assert not module[2].bias.requires_grad
    assert type(module[1].running_mean).__name__ == "FakeTensor"
    assert type(module[0].weight.data).__name__ == "FakeTensor"


def shapes_of(method: str, **options: Any) -> Any:
    """Return a module without weights."""
    backbone = zoo.Backbone(**{"name": "tiny-llama", **options.pop("backbone", {})})
    module = getattr(zoo, method)(backbone=backbone, **options)
    module.build(meta=True)
    return module


def largest_batch(module: Any, data: Any) -> Any:
    encoder = module.encoder()
    data.prepare("fit", encoder)
    return data.train_dataloader().largest()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("method", METHODS)
def test_fake_step_counts_what_the_step_holds(method: str, precision: str, make: Any) -> None:
    real = make(method, "tiny-llama", **METHODS[method])
    batch = largest_batch(real, FalseBelief(batch_size=8, max_train=32))
    real.log_terms = lambda stage, terms: None
    counter = LiveBytes()
    with counter:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = real.training_step(batch, 0)
        loss.backward()
    fake = shapes_of(method, **METHODS[method])
    assert step_bytes(fake, batch, precision) == pytest.approx(counter.peak, rel=0.01)


def test_half_precision_and_recomputing_need_less() -> None:
    found = {}
    for name, precision, again in (
        ("full", "32-true", False),
        ("half", "bf16-mixed", False),
        ("again", "32-true", True),
    ):
        module = shapes_of("SFT", backbone={"gradient_checkpointing": again})
        batch = largest_batch(module, FalseBelief(batch_size=32, max_train=64))
        found[name] = step_bytes(module, batch, precision)
    assert found["half"] < found["full"]
    assert found["again"] < found["full"]


def test_largest_micro_batch_decides() -> None:
    module = shapes_of("SFT")
    encoder, data = module.encoder(), FalseBelief(batch_size=4, max_train=40)
    data.prepare("fit", encoder)
    loader = data.train_dataloader()
    assert loader.largest().num_tokens == max(batch.num_tokens for batch in loader)


def test_a_step_that_needs_values_is_estimated() -> None:
    module = shapes_of("SFT")
    batch = largest_batch(module, FalseBelief(batch_size=4, max_train=8))
    losses = module.losses

    def reading(batch: Any) -> Any:
        return losses(batch) if module.lm.lm_head.weight.sum().item() else {}

    module.losses = reading
    line = memory(module, batch, "32-true")
    assert "a rough estimate, since a step did not run: DataDependentOutputException" in line
    with pytest.raises(UncountableError):
        step_bytes(module, batch, "32-true")


def test_what_is_frozen_has_neither_states_nor_gradients() -> None:
    found = {}
    for train in ("hyper", "full"):
        module = shapes_of("MeGan", train=train)
        batch = largest_batch(module, ConditionedChat(batch_size=4, max_train=8))
        line = memory(module, batch, "32-true")
        assert line.endswith("(counted)")
        found[train] = step_bytes(module, batch, "32-true")
        states = float(re.findall(r"AdamW ([\d.]+)", line)[0])
        trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        assert states == pytest.approx(8 * trained / 2**30, abs=0.005)
    assert found["hyper"] < found["full"]
