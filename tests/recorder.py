"""Parts of runs that tests start: a callback that writes batches down, a method of uneven pace."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from zoo.methods.methanol.module import MeTHanol


def plain(value: Any) -> Any:
    """Return the tensors, numbers and texts of a batch as plain values, records left out."""
    if isinstance(value, Tensor):
        return value.tolist()
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return plain({n: v for n, v in fields.items() if n not in ("records", "record")})
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, int | float | str) else None


class Recorder(Callback):
    """Append one JSON line per training micro-batch, at once, so that a killed run leaves them.

    Args:
        path: File to append to; the rank is added to its name.
        pause: Seconds to sleep after each batch, to leave time for a kill.
    """

    def __init__(self, path: str, pause: float = 0.0) -> None:
        self.path, self.pause = path, pause

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        import time

        if hasattr(batch, "records"):
            records = batch.records
        else:
            records = [example.record for example in batch.examples]
        line = {
            "epoch": trainer.current_epoch,
            "batch": batch_idx,
            "step": trainer.global_step,
            "ids": [record.id for record in records if record is not None],
            "content": hashlib.sha256(repr(plain(batch)).encode()).hexdigest()[:16],
            "loss": float(outputs["loss"]),  # Lightning has divided it by the accumulation
            "norm": float(trainer.callback_metrics.get("train/grad_norm", 0.0)),
        }
        with Path(f"{self.path}.{trainer.global_rank}").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        time.sleep(self.pause)


class Uneven(MeTHanol):
    """A method whose first process never thinks, while the others think to the limit."""

    def think_logits(self, middle_BD: Tensor) -> Tensor:
        logits = super().think_logits(middle_BD)
        logits[:, self.encoder().stop_id] = 1e4 if self.global_rank == 0 else -1e4
        return logits


def lines(path: Path, rank: int = 0) -> list[dict[str, Any]]:
    """Return what a rank has written."""
    return [json.loads(line) for line in Path(f"{path}.{rank}").read_text().splitlines()]


def overlay(path: Path, log: Path, **options: float) -> str:
    """Write a config that adds the callback; return its path."""
    init = {"path": str(log), **options}
    entry = {"class_path": "recorder.Recorder", "init_args": init}
    path.write_text(json.dumps({"trainer": {"callbacks": [entry]}}))
    return str(path)
