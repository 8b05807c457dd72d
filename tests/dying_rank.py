"""FSDP2 whose second process is killed while a checkpoint's files are written."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint import FileSystemWriter

from zoo.sharding import FSDP2

STEP = 3


class _Dying(ModelParallelStrategy):
    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, *more: Any) -> None:
        """Save; at step 3 of `last.ckpt` the second process dies before its file is written."""
        of_the_last = "last.ckpt" in Path(path).name
        if self.global_rank == 1 and checkpoint["global_step"] >= STEP and of_the_last:
            FileSystemWriter.write_data = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        super().save_checkpoint(checkpoint, path, *more)


class DyingFSDP2(FSDP2, _Dying):
    """The zoo's strategy around one that dies."""
