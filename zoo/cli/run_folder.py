"""The folder of a run: one that no other run has, its settings, and what to do with it."""

from __future__ import annotations

import os
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn

from zoo.errors import InputError

RUN_DIR = "ZOO_RUN_DIR"  # set by the first process, so that the others write beside it


def new_folder(class_path: str) -> str:
    """Return `runs/METHOD/TIME-NUMBER`; the random number tells runs of one second apart."""
    name = class_path.rpartition(".")[2].lower()
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
    inherited = os.environ.get(RUN_DIR) if "LOCAL_RANK" in os.environ else None
    os.environ[RUN_DIR] = inherited or str(Path("runs") / name / stamp)
    return os.environ[RUN_DIR]


def check_folder(verb: str | None, root: Path, ckpt_path: str | None) -> None:
    """Refuse to write over another run.

    Args:
        verb: What is to be done.
        root: Where it would write.
        ckpt_path: The checkpoint that it goes on from.

    Raises:
        InputError: The folder holds a run that is not resumed, or predictions.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":  # the first process has looked
        return
    new = "name a new folder, or null for one of the run's own"
    resumed = ckpt_path is not None and root.resolve() in Path(ckpt_path).resolve().parents
    if verb == "fit" and (root / "config.yaml").exists() and not resumed:
        raise InputError(
            f"trainer.default_root_dir: {root} holds another run; {new}, or resume it with "
            f"--ckpt_path {root / 'checkpoints' / 'last.ckpt'}"
        )
    if verb == "predict" and any(root.glob("predictions*.jsonl")):
        raise InputError(f"trainer.default_root_dir: {root} holds predictions; {new}")


def next_steps(trainer: Trainer) -> list[str]:
    """Return lines that say where a run left what, and the commands that go on from there."""
    root = Path(trainer.default_root_dir)
    lines = [f"run folder  {root}"] if root.exists() else []  # fast_dev_run leaves none
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            lines.append(f"tensorboard tensorboard --logdir {logger.save_dir}")
        elif logger.log_dir:
            lines.append(f"logs        {logger.log_dir}")
    saved = trainer.checkpoint_callback
    last = saved.last_model_path if saved else ""  # type: ignore[attr-defined]
    if last:
        given = f"--config {root / 'config.yaml'} --ckpt_path {last}"
        lines.append(f"checkpoint  {last}")
        lines.append(f"generate    python -m zoo generate {given}")
        lines.append(f"export      python -m zoo export {given} --output FOLDER")
    return lines


class SaveConfig(SaveConfigCallback):
    """Saves the settings without the arguments of the verb, so that every verb takes the file."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, **options: Any) -> None:
        kept = ("seed_everything", "trainer", "model", "data", "checkpoint")
        settings = {key: value for key, value in vars(config.clone()).items() if key in kept}
        super().__init__(parser, Namespace(**settings), save_to_log_dir=False, **options)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Write nothing yet: a checkpoint that does not fit is refused first."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Save the settings."""
        self._save(trainer, pl_module)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Save the settings, unless training may yet be refused."""
        if not trainer.sanity_checking:
            self._save(trainer, pl_module)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Save the settings."""
        self._save(trainer, pl_module)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Save the settings."""
        self._save(trainer, pl_module)

    def _save(self, trainer: Any, module: Any) -> None:
        super().setup(trainer, module, trainer.state.fn)

    def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Write to the run folder; a training run's settings are not replaced by another verb's."""
        path = Path(trainer.default_root_dir) / self.config_filename
        if stage == TrainerFn.FITTING or not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.parser.save(self.config, path, skip_none=False, overwrite=True)
