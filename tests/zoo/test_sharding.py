"""Strategies of sharded runs, as far as they work without a card."""

from __future__ import annotations

from typing import Any, cast

import lightning
import pytest
import torch
from lightning.pytorch.plugins.precision import FSDPPrecision
from lightning.pytorch.strategies import FSDPStrategy

import zoo
from zoo.records import Triple
from zoo.sharding import FSDP1


def test_fsdp1_leaves_records_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would refuse a batch with records, and leave the module on the processor."""
    batch = {"ids": torch.ones(1, 2), "records": [Triple("q", None, "a")]}
    card = torch.device("cuda", 0)
    strategy = FSDP1(parallel_devices=[card], precision_plugin=FSDPPrecision("bf16-mixed"))
    with pytest.raises(ValueError, match="frozen dataclass"):
        strategy.precision_plugin.convert_input(batch)
    module = zoo.SFT(zoo.Backbone("tiny-llama"))
    strategy._lightning_module = module
    seen: list[Any] = []
    monkeypatch.setattr(FSDPStrategy, "setup", lambda self, trainer: seen.append(module._device))
    strategy.setup(cast(lightning.Trainer, None))
    assert strategy.precision_plugin.convert_input(batch) is batch
    assert seen == [card]
