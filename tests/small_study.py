"""A small study, and fits that only log in place of its processes."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path
from typing import Any

import yaml
from running import tiny
from torch.utils.tensorboard import SummaryWriter

from zoo.cli.study_cells import DivergedError, KilledError

LR, SIZE = "model.optimizer.lr", "data.batch_size"
SHORT = {
    "trainer.max_steps": 8,
    "trainer.val_check_interval": 4,
    "data.max_train": 16,
    "data.max_val": 2,
    "model.max_generated": 1,
    "checkpoint.every_n_train_steps": 1,
}


def settings(folder: Path, **changed: Any) -> dict[str, Any]:
    """A study of two learning rates and two batch sizes of a tiny SFT."""
    return {
        "fit": list(tiny("sft")[1::2]),
        "vary": {LR: [1e-3, 1e-2], SIZE: [2, 4]},
        "measure": {"answers": "val/speak_loss"},
        "folder": str(folder / "small"),
        "fixed": SHORT,
        **changed,
    }


def written(folder: Path, **changed: Any) -> str:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(settings(folder, **changed), sort_keys=False))
    return str(path)


class Fits:
    """Takes the place of the processes: a fit logs 1 + ln(lr)^2; some are killed, or diverge."""

    def __init__(self) -> None:
        self.run: list[str] = []
        self.kills: dict[str, int] = {}
        self.diverges: dict[str, str] = {}  # in its gradient, or in its loss
        self.lock = threading.Lock()

    def __call__(self, verb: str, folder: Path, given: list[str], lock: int) -> None:
        with self.lock:
            self.run.append(folder.name)
            left = self.kills.get(folder.name, 0)
            self.kills[folder.name] = left - 1
        if left > 0:
            raise KilledError(folder.name)
        if self.diverges.get(folder.name) == "gradient":
            raise DivergedError(folder.name)
        time.sleep(0.05)
        lr = float(given[given.index(f"--{LR}") + 1]) if verb == "fit" else 1.0
        if verb == "fit":
            steps = int(given[given.index("--trainer.max_steps") + 1])
            written = {"max_steps": steps, "max_epochs": None, "max_time": None, "callbacks": None}
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.yaml").write_text(yaml.safe_dump({"trainer": written}))
        with SummaryWriter(str(folder)) as board:
            board.add_scalar("val/speak_loss", 9.0, 3)
            loss = math.nan if folder.name in self.diverges else 1.0 + math.log(lr) ** 2
            board.add_scalar("val/speak_loss", loss, 7)
