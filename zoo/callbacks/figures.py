"""What a method has to show as pictures and as vectors, in TensorBoard."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from zoo.module import ZooModule

MAX_VECTORS = 1000


class Figures(Callback):
    """Write `module.figures()` after each validation and test.

    A value is a matplotlib figure, or `(vectors, labels)` for the projector.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the figures of a validation."""
        self._write(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the figures of a test."""
        self._write(trainer, pl_module, "test")

    def _write(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        logger = trainer.logger
        if not isinstance(logger, TensorBoardLogger) or not trainer.is_global_zero:
            return
        if not isinstance(module, ZooModule):
            return
        board, step = logger.experiment, trainer.global_step
        for name, shown in module.figures().items():
            if isinstance(shown, tuple):
                vectors, labels = (part[:MAX_VECTORS] for part in shown)
                labels = [" ".join(label.split()) or "-" for label in labels]
                board.add_embedding(vectors, labels, global_step=step, tag=f"{stage}/{name}")
            else:
                board.add_figure(f"{stage}/{name}", shown, step)
