"""The strategies of sharded runs: FSDP2, whose checkpoints are whole or not there, and FSDP1."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

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


class FSDP1(FSDPStrategy):
    """Lightning's FSDP1, for batches that hold records. Its arguments are those of `FSDPStrategy`.

    Lightning casts whatever a batch holds, and records are frozen; ids and masks need no cast. It
    also wraps the module without telling it that it is on a card.
    """

    def setup(self, trainer: lightning.Trainer) -> None:
        """Wrap the module and make its optimisers."""
        self.precision_plugin.convert_input = _as_it_is  # type: ignore[method-assign]
        assert self.lightning_module is not None
        self.lightning_module._device = self.root_device
        super().setup(trainer)


def _as_it_is(data: Any) -> Any:
    return data


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
