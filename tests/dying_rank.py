"""FSDP2 whose second process is killed while a checkpoint's files are written."""

from __future__ import annotations

import os
import signal
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint import FileSystemWriter

from zoo.sharding import FSDP2

STEP = 3


class _Dying(ModelParallelStrategy):
    def save_checkpoint(self, checkpoint: dict[str, Any], *args: Any, **options: Any) -> None:
        """Save; from step 3 on the second process dies before its file is written."""
        if self.global_rank == 1 and checkpoint["global_step"] >= STEP:
            FileSystemWriter.write_data = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        super().save_checkpoint(checkpoint, *args, **options)


class DyingFSDP2(FSDP2, _Dying):
    """The zoo's strategy around one that dies."""
