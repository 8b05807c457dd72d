"""The strategy of sharded runs: FSDP2, whose checkpoints are whole or not there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy

from zoo import weights


class FSDP2(ModelParallelStrategy):
    """Lightning's FSDP2; its processes write a checkpoint beside the old one, which it replaces.

    Each process writes its step too, and a checkpoint whose processes disagree is refused. Its
    arguments are those of `ModelParallelStrategy`.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Write a folder (or a file, with `save_distributed_checkpoint: false`)."""
        path = Path(self.broadcast(filepath))
        scratch = path.with_name(f".{path.name}.part")
        if self._save_distributed_checkpoint:
            step = torch.tensor(checkpoint["global_step"])
            checkpoint["state_dict"][f"{weights.STEP}{self.global_rank}"] = step
        if self.is_global_zero:
            remove(scratch)  # of a killed run
        self.barrier()
        super().save_checkpoint(checkpoint, scratch, storage_options)
        self.barrier()
        if self.is_global_zero:
            replace(scratch, path)
        self.barrier()

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint into the module and its optimiser.

        Raises:
            InputError: It is mixed or damaged, or does not fit the module.
        """
        path, module = Path(self.broadcast(checkpoint_path)), self.lightning_module
        if path.is_dir():
            weights.check_sharded(module, path)  # type: ignore[arg-type]
        else:
            found = weights.shapes(weights.read_checkpoint(path)["state_dict"])
            weights.compare(module, found, path)  # type: ignore[arg-type]
        return super().load_checkpoint(path, weights_only)


def replace(new: Path, path: Path) -> None:
    """Give a file or folder the place of another; a kill in between leaves both of them whole."""
    old = path.with_name(f".{path.name}.old")
    remove(old)
    if path.exists():
        path.rename(old)
    new.rename(path)
    remove(old)


def remove(path: Path) -> None:
    """Delete a file or folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
