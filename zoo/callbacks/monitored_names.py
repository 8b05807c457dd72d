"""Names of scores that callbacks and schedules wait for: refused before training if none logs them.

What a method logs is known once it was validated: where something is monitored, Lightning looks at
one batch of validation first ("sanity check"), and its names are compared.
"""

from __future__ import annotations

import difflib
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from zoo.errors import InputError, nearest
from zoo.module import ZooModule

COUNTERS = ("step", "epoch")  # Lightning's own
LIKE = 0.85  # of two names in training, from 0 to 1: the other one was meant


class MonitoredNames(Callback):
    """Refuse a monitored name that validation does not log.

    Names of training (`train/...`, `lr-...`) are refused where they are misspelt ones of the zoo's:
    a method may log others at the end of an epoch. After a resume the first validation is compared.
    """

    def __init__(self) -> None:
        self.compared = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask for a batch of validation if anything is monitored."""
        own_schedule = type(pl_module).configure_optimizers is not ZooModule.configure_optimizers
        if stage == "fit" and (own_schedule or monitored(trainer)):
            trainer.num_sanity_val_steps = max(1, trainer.num_sanity_val_steps)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the names with those that were logged."""
        if trainer.state.fn != "fit" or self.compared:
            return
        self.compared = True
        logged = set(trainer.callback_metrics)
        trained = {name.replace("val/", "train/") for name in logged if name.endswith("loss")}
        trained |= {"train/grad_norm"}
        for owner, name in monitored(trainer).items():
            if name in logged | trained:
                continue
            if name.startswith(("train/", "lr-")) and not difflib.get_close_matches(
                name, trained, cutoff=LIKE
            ):
                continue
            raise InputError(
                f"{owner}: nothing logs {name!r}; {nearest(name, logged | trained)}; the first "
                f"validation was looked at, trainer.num_sanity_val_steps: -1 for all of it"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse names of a validation that does not run."""
        for owner, name in monitored(trainer).items():
            if name.startswith("val") and not trainer.enable_validation:
                raise InputError(f"{owner}: nothing logs {name!r}: there is no validation")


def monitored(trainer: Trainer) -> dict[str, str]:
    """Return the names that callbacks and learning-rate schedules wait for, by whose they are."""
    waiting: dict[str, Any] = {
        f"{type(callback).__name__}.monitor": getattr(callback, "monitor", None)
        for callback in trainer.callbacks  # type: ignore[attr-defined]
    }
    for config in trainer.lr_scheduler_configs:
        waiting[f"monitor of {type(config.scheduler).__name__}"] = config.monitor
    return {o: name for o, name in waiting.items() if name is not None and name not in COUNTERS}
