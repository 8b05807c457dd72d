"""A run's TensorBoard folder: no chart of the epoch, hyperparameters beside the main score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams


class LateWriter(SummaryWriter):
    """A writer whose file is made with the first thing that it writes, not with itself.

    Args:
        folder: Where the file goes.
    """

    def __init__(self, folder: str) -> None:
        self.made = False
        super().__init__(folder)
        self.made = True

    def _get_file_writer(self) -> Any:
        return super()._get_file_writer() if self.made else None


class RunLogger(TensorBoardLogger):
    """Writes scalars but Lightning's own two: `epoch`, and `hp_metric` that is always -1.

    A run that is refused before it logs anything leaves no file.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder, name="", version="", default_hp_metric=False)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write numbers over the step.

        Args:
            metrics: Number by name.
            step: Optimiser steps so far.
        """
        super().log_metrics({n: v for n, v in metrics.items() if n != "epoch"}, step)

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """The writer."""
        if self._experiment is None:
            self._experiment = LateWriter(self.log_dir)
        return self._experiment

    def save(self) -> None:
        """Flush what was logged, and write the settings beside it."""
        if self._experiment is not None and self._experiment.file_writer is not None:
            super().save()


class EvaluationWriter(Callback, ABC):
    """Writes to the TensorBoard folder, in the first process, when a validation or test ends."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write after a validation."""
        self._write_to_board(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write after a test."""
        self._write_to_board(trainer, pl_module, "test")

    @abstractmethod
    def write(self, board: Any, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Write to a `SummaryWriter`; `stage` is `val` or `test`."""

    def _write_to_board(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        wanted = trainer.is_global_zero and not trainer.sanity_checking
        if wanted and isinstance(trainer.logger, TensorBoardLogger):
            self.write(trainer.logger.experiment, trainer, module, stage)


class Hyperparameters(EvaluationWriter):
    """Write the hyperparameters once, when the first validation or test gives the main score.

    The main score is the first that the method shows in the progress bar; its first loss where it
    shows no score. TensorBoard's HPARAMS page lists runs by it.
    """

    def __init__(self) -> None:
        self.written = False

    def write(self, board: Any, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Write them unless that was done."""
        metrics = trainer.progress_bar_metrics
        names = [name for name in metrics if name.startswith(f"{stage}/")]
        names.sort(key=lambda name: name.endswith("_loss"))  # stable: scores before losses
        if self.written or not names:
            return
        self.written = True
        # Not logger.log_hyperparams: it would write the score a second time at this step.
        for summary in hparams(flat(module.hparams), {names[0]: metrics[names[0]]}):
            board._get_file_writer().add_summary(summary)


def flat(settings: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """Return nested settings as one mapping with dotted keys; what is no number as text."""
    pairs: dict[str, bool | float | str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            pairs |= {f"{key}.{name}": inner for name, inner in flat(value).items()}
        elif not key.startswith("_"):  # Lightning's own
            pairs[key] = value if isinstance(value, (bool, int, float)) else str(value)
    return pairs
