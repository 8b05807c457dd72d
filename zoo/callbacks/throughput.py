"""Tokens per second, peak memory, and model FLOP utilisation where the device's peak is known."""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from typing import Any, Protocol

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch import Callback, LightningModule, Trainer


class Counted(Protocol):
    """A batch that says how much work it is."""

    def counts(self) -> dict[str, int]:
        """Return amounts by name, the most telling first."""
        ...


class Throughput(Callback):
    """Log speed and memory every `trainer.log_every_n_steps` steps.

    A batch says what it counts: `tokens_per_s` are real tokens (padding excluded) of this process,
    `supervised_tokens_per_s` those that a head learns, `pairs_per_s` media with their texts.
    `peak_memory_gib` the device's (CUDA) or process's (CPU) high-water
    mark. `mfu` (CUDA only) is 6 x parameters x tokens/s over the device's peak, the usual estimate
    of a full training step. The time of validation and checkpoints is not counted.
    """

    def __init__(self) -> None:
        self.start, self.seconds = 0.0, 0.0
        self.counts: Counter[str] = Counter()

    def on_train_batch_start(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Counted, *_: Any
    ) -> None:
        """Add the batch; log and start anew at a logging step."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        logging = trainer.global_step % every == 0
        cuda = pl_module.device.type == "cuda"
        if logging and cuda:
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - self.start
        self.counts.update(batch.counts())
        if not logging or self.seconds == 0:
            return
        values = {f"{name}_per_s": count / self.seconds for name, count in self.counts.items()}
        first = next(iter(values))
        pl_module.log(first, values[first], prog_bar=True, logger=False)
        values["peak_memory_gib"] = peak_memory_gib(cuda=cuda)
        peak = get_available_flops(pl_module.device, torch.bfloat16) if cuda else None
        if peak and "tokens_per_s" in values:
            size = sum(p.numel() for p in pl_module.parameters())
            values["mfu"] = 6 * size * values["tokens_per_s"] / peak
        if trainer.logger is not None:
            named = {f"speed/{name}": value for name, value in values.items()}
            trainer.logger.log_metrics(named, trainer.global_step)
        self.seconds, self.counts = 0.0, Counter()


def peak_memory_gib(*, cuda: bool) -> float:
    """Return the high-water mark of device (CUDA) or process memory in GiB."""
    if cuda:
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
