"""Checkpoint files that are complete or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from zoo.cache import whole_file


class WholeFiles(TorchCheckpointIO):
    """Write checkpoints to a scratch file first, so that a file is complete or not there.

    Lightning's own way goes through the system's temporary folder, which may be another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write the file."""
        with whole_file(Path(path)) as scratch:
            torch.save(checkpoint, scratch)
