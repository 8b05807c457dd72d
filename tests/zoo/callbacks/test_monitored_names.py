"""Monitored names that nothing logs are refused before the first step; no number changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from running import METHANOL, last, load, main

STOPPING = "--trainer.callbacks=lightning.pytorch.callbacks.EarlyStopping"
MONITOR = "--trainer.callbacks.monitor"


def fit(folder: Path, *args: str) -> None:
    """Train one step."""
    main(
        *("fit", *METHANOL, "--data.num_train", "8", "--data.max_val", "2"),
        *("--trainer.max_steps", "1", "--trainer.val_check_interval", "1"),
        *("--trainer.default_root_dir", str(folder), *args),
    )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            (STOPPING, MONITOR, "val/los"),
            "EarlyStopping.monitor: nothing logs 'val/los'; did you mean 'val/loss'?",
        ),
        (
            ("--checkpoint.monitor", "val_acuracy"),
            "ModelCheckpoint.monitor: nothing logs 'val_acuracy'; did you mean 'val/accuracy'?",
        ),
        (
            (STOPPING, MONITOR, "train/los"),
            "EarlyStopping.monitor: nothing logs 'train/los'; did you mean 'train/loss'?",
        ),
        (
            (STOPPING, MONITOR, "val/loss", "--trainer.limit_val_batches", "0"),
            "EarlyStopping.monitor: nothing logs 'val/loss': there is no validation",
        ),
    ],
    ids=["stopping", "checkpoint", "training", "no-validation"],
)
def test_refused(
    args: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path, *args)
    (error,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert error.startswith(f"error: {said}")
    assert not list(tmp_path.iterdir())


def test_the_check_changes_no_number(tmp_path: Path) -> None:
    """The weights after a step are those of a run that looks at no validation first."""
    fit(tmp_path / "without")
    fit(tmp_path / "with", STOPPING, MONITOR, "val/loss")
    without, checked = (load(last(tmp_path / n))["state_dict"] for n in ("without", "with"))
    torch.testing.assert_close(checked, without, rtol=0, atol=0)
