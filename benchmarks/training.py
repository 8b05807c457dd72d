"""What the trials train with: records that are given, and a trainer that only trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning

from datamodules.base import ZooDataModule
from zoo.records import Dialogue, LabelPath, Ranking


class GivenRecords(ZooDataModule):
    """Trains on given records.

    Args:
        records: The records, whatever the split.
    """

    record_types = (Dialogue, LabelPath, Ranking)

    def __init__(self, records: Sequence[Any], **options: Any) -> None:
        super().__init__(**options)
        self.given = list(records)

    def load(self, split: str) -> list[Any]:
        """Return the records."""
        return list(self.given)


def quiet_trainer(**given: Any) -> lightning.Trainer:
    """Return a trainer on the CPU that validates, logs and keeps nothing, but for what is given."""
    quiet = {
        "accelerator": "cpu",
        "gradient_clip_val": 1.0,
        "limit_val_batches": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return lightning.Trainer(**{**quiet, **given})
