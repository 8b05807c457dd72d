"""What a method has to show as pictures and as vectors, in TensorBoard."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer

from zoo.callbacks.tensorboard import EvaluationWriter
from zoo.module import ZooModule

MAX_VECTORS = 1000


class Figures(EvaluationWriter):
    """Write `module.figures()` after each validation and test.

    A value is a matplotlib figure, or `(vectors, labels)` for the projector.
    """

    def write(self, board: Any, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Write the figures of a validation or test."""
        if not isinstance(module, ZooModule):
            return
        step = trainer.global_step
        for name, shown in module.figures().items():
            if isinstance(shown, tuple):
                vectors, labels = (part[:MAX_VECTORS] for part in shown)
                labels = [" ".join(label.split()) or "-" for label in labels]
                board.add_embedding(vectors, labels, global_step=step, tag=f"{stage}/{name}")
            else:
                board.add_figure(f"{stage}/{name}", shown, step)
