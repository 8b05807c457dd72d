"""What `check` counts of a step: the bytes that the same step holds with values."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from running import CONFIGS, main
from torch import nn

import zoo
from datamodules import ConditionedChat, ESConv, FalseBelief
from datamodules.loader import StepLoader
from zoo.cli import listing
from zoo.cli.step_memory import (
    LiveBytes,
    UncountableError,
    forget_content,
    memory,
    memory_line,
    step_bytes,
)
from zoo.precision import best

METHODS: dict[str, dict[str, Any]] = {
    "SFT": {},
    "MeTHanol": {"thinking_layer": 1},
    "HdLM": {"layers": [1], "guide": ["strategy"]},
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


def held_by(module: Any, batch: Any, precision: str, accumulate: int) -> int:
    """Return the most bytes that a step with values holds, the second of two."""
    module.log_terms = module.log = lambda *values, **options: None
    counter = LiveBytes([*module.parameters(), *module.buffers()])
    with counter:
        module.on_train_start()
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
                loss = module.training_step(batch, 0)
            if accumulate == 1:
                module.zero_grad()
            loss.backward()
            del loss
    return counter.peak


@pytest.mark.parametrize(("precision", "accumulate"), [("32-true", 1), ("bf16-mixed", 2)])
@pytest.mark.parametrize("method", METHODS)
def test_fake_step_counts_what_the_step_holds(
    method: str, precision: str, accumulate: int, make: Any
) -> None:
    real = make(method, "tiny-llama", **METHODS[method])
    batch = largest_batch(real, FalseBelief(batch_size=8, max_train=32))
    wanted = held_by(real, batch, precision, accumulate)
    fake = shapes_of(method, **METHODS[method])
    assert step_bytes(fake, batch, precision, accumulate) == pytest.approx(wanted, rel=0.01)


def test_a_linear_layer_by_hand() -> None:
    """Weights of 4,000 bytes do not count, nor does their transpose; their gradients do."""

    class Line(nn.Module):
        """A stand-in for a method: 50 x 20 weights, the sum of 10 rows times them."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(20, 50, bias=False)

        def on_train_start(self) -> None:
            """Keep nothing."""

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            """Return a loss: `(10, 50)` values of 2,000 bytes and their sum."""
            return self.layer(batch).sum()

    rows = torch.zeros(10, 20)
    peak = step_bytes(Line(), rows, "32-true")  # type: ignore[arg-type]
    # in the second forward pass the first gradient, the values and the sum; in the backward pass
    # the gradient of the sum (4) and of the weights, beside the loss
    assert peak == 4000 + 2000 + 4


def test_views_of_weights_do_not_count() -> None:
    weight = torch.zeros(1000)
    with LiveBytes([weight]) as counter:
        kept = weight.view(10, 100).t()
        assert counter.live == 0
        more = kept + 1
    assert len(more) == 100
    assert counter.peak == 4000


def test_half_precision_and_recomputing_need_less() -> None:
    found = {}
    for name, precision, again in (
        ("full", "32-true", False),
        ("half", "bf16-mixed", False),
        ("float16", "16-mixed", False),
        ("again", "32-true", True),
    ):
        module = shapes_of("SFT", backbone={"gradient_checkpointing": again})
        batch = largest_batch(module, FalseBelief(batch_size=32, max_train=64))
        found[name] = step_bytes(module, batch, precision)
    assert found["half"] == found["float16"] < found["full"]
    assert found["again"] < found["full"]


def test_largest_micro_batch_decides() -> None:
    module = shapes_of("SFT")
    encoder, data = module.encoder(), FalseBelief(batch_size=4, max_train=40)
    data.prepare("fit", encoder)
    loader = data.train_dataloader()
    assert loader.largest().num_tokens == max(batch.num_tokens for batch in loader)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_largest_micro_batch_of_a_rank(rank: int) -> None:
    """It has the normalisers of its step, as in training."""
    encoder, data = shapes_of("SFT").encoder(), FalseBelief(max_train=61)
    options = {"batch_size": 4, "max_tokens": 900, "accumulate": 2, "shuffle": True}
    loader = StepLoader(
        data.examples("train", encoder), encoder.collate, **options, rank=rank, world_size=3
    )
    found, batches = loader.largest(), list(loader)
    longest = max(batches, key=lambda batch: batch.num_tokens)
    assert found.num_tokens == longest.num_tokens
    assert any(
        torch.equal(found.input_ids, batch.input_ids) and found.normalizers == batch.normalizers
        for batch in batches
    )


def test_a_step_that_needs_values_is_estimated() -> None:
    module = shapes_of("SFT")
    batch = largest_batch(module, FalseBelief(batch_size=4, max_train=8))
    losses = module.losses

    def reading(batch: Any) -> Any:
        return losses(batch) if module.lm.lm_head.weight.sum().item() else {}

    module.losses = reading
    line = memory_line(module, batch, "32-true", 1)
    assert "a rough estimate, no step ran: DataDependentOutputException" in line
    with pytest.raises(UncountableError):
        step_bytes(module, batch, "32-true")


def test_the_line_is_the_sum_of_its_parts() -> None:
    module = shapes_of("SFT", max_length=4096)
    batch = largest_batch(module, FalseBelief(batch_size=64, max_train=64))
    found = memory(module, batch, "32-true")
    line = memory_line(module, batch, "32-true", 1)
    whole, *parts = (float(number) for number in re.findall(r"\d+\.\d\d", line))
    assert whole == pytest.approx(sum(parts), abs=0.03)
    counted = (found.weights + found.states + found.step) / 2**30
    assert whole == pytest.approx(counted * 1.12, abs=0.01)
    assert whole > 0.1


def test_what_is_frozen_has_neither_states_nor_gradients() -> None:
    found = {}
    for train in ("hyper", "full"):
        module = shapes_of("MeGan", train=train)
        batch = largest_batch(module, ConditionedChat(batch_size=4, max_train=8))
        found[train] = memory(module, batch, "32-true")
        numbers = [(p.numel(), p.requires_grad) for p in module.parameters()]
        assert found[train].weights == 4 * sum(number for number, _ in numbers)
        assert found[train].states == 8 * sum(number for number, learns in numbers if learns)
        assert not found[train].estimated
    assert found["hyper"].step < found["full"].step
    assert found["hyper"].states < found["full"].states


def test_what_is_kept_from_the_start_counts() -> None:
    """straQ*'s target is a copy of what is trained."""
    sizes = {}
    for objective in ("td", "cross_entropy"):
        module = shapes_of("StraQ", objective=objective)
        batch = largest_batch(module, ESConv(batch_size=1, max_train=1))
        sizes[objective] = step_bytes(module, batch, "32-true")
    trained = 4 * sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert sizes["td"] > sizes["cross_entropy"] + 0.9 * trained


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (("--trainer.precision", "bf16-mixed"), ("bf16-mixed", 1)),
        (("--trainer.accumulate_grad_batches", "3"), (best("cpu")[0], 3)),
    ],
)
def test_check_counts_the_step_that_fit_takes(
    given: tuple[str, str], wanted: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(listing, "memory_line", lambda *arguments: heard.append(arguments) or "")
    config = str(CONFIGS / "sft.yaml")
    tiny = ("--model.backbone.name", "tiny-llama", "--model.max_length", "4096")
    main("check", "--config", config, *tiny, "--data.max_train", "32", *given)
    ((_, batch, precision, accumulate),) = heard
    assert (precision, accumulate) == wanted
    encoder = shapes_of("SFT", max_length=4096).encoder()
    data = FalseBelief(batch_size=4, max_train=32)
    lengths = [len(example) for example in data.examples("train", encoder)]
    assert batch.num_tokens >= 4 * sum(lengths) / len(lengths)  # the largest, not any


def test_line_of_a_method_that_is_not_trained() -> None:
    module = shapes_of("CoCT")
    line = memory_line(module, None, "32-true", 1)
    assert line == "memory      weights 0.00 GiB; nothing is trained"
