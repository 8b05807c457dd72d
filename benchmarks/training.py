"""What the trials train with: given records, a trainer that only trains, losses of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
import torch

from datamodules.base import ZooDataModule
from zoo.records import Conditioned, Dialogue, Dilemma, LabelPath, Ranking

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class GivenRecords(ZooDataModule):
    """Trains on given records.

    Args:
        records: The records, whatever the split.
    """

    record_types = (Conditioned, Dialogue, Dilemma, LabelPath, Ranking)

    def __init__(self, records: Sequence[Any], **options: Any) -> None:
        super().__init__(**options)
        self.given = list(records)

    def load(self, split: str) -> list[Any]:
        """Return the records."""
        return list(self.given)


def quiet_trainer(**given: Any) -> lightning.Trainer:
    """Return a trainer on a card, if there is one, that only trains, but for what is given."""
    quiet = {
        "accelerator": DEVICE,
        "devices": 1,
        "gradient_clip_val": 1.0,
        "limit_val_batches": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return lightning.Trainer(**{**quiet, **given})


class Losses(lightning.Callback):
    """Keeps and prints the mean loss of the passes of each optimiser step.

    Attributes:
        found: A loss for each step.
    """

    def __init__(self) -> None:
        self.found: list[float] = []
        self.passes: list[float] = []

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, *_: Any) -> None:
        """Take in a pass; Lightning has divided its loss by their number."""
        self.passes.append(float(outputs["loss"]))
        if len(self.passes) == trainer.accumulate_grad_batches:
            self.found.append(round(sum(self.passes), 4))
            print(f"step {trainer.global_step}: loss {self.found[-1]:.4f}", flush=True)
            self.passes.clear()
