"""Generated samples as text in TensorBoard."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

NUM_SAMPLES = 8  # rows of a table


class Samples(Callback):
    """Write the first samples of each validation and test as a table.

    A step offers samples by returning `{"samples": [{column: text, ...}, ...]}`.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any, **__: Any
    ) -> None:
        """Collect samples."""
        self._collect(outputs)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any, **__: Any
    ) -> None:
        """Collect samples."""
        self._collect(outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table."""
        self._write(trainer, "samples/val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table."""
        self._write(trainer, "samples/test")

    def _collect(self, outputs: Any) -> None:
        if isinstance(outputs, dict):
            self.rows += outputs.get("samples", [])

    def _write(self, trainer: Trainer, tag: str) -> None:
        rows, self.rows = self.rows[:NUM_SAMPLES], []
        logger = trainer.logger
        if not rows or not isinstance(logger, TensorBoardLogger) or not trainer.is_global_zero:
            return
        if trainer.sanity_checking:
            return
        logger.experiment.add_text(tag, table(rows), trainer.global_step)


def table(rows: list[dict[str, str]]) -> str:
    """Return rows as a Markdown table."""
    columns = list(rows[0])

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", "<br>")

    body = [line([cell(row[column]) for column in columns]) for row in rows]
    return "\n".join([line(columns), line(["---"] * len(columns)), *body])
