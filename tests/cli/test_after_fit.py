"""What `fit` prints at its end: only commands whose files exist, whatever logs and checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from running import METHANOL, board, main

SHORT = ("--data.num_train", "8", "--data.max_val", "2", "--trainer.max_steps", "1")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--trainer.limit_val_batches", "0"), ["tensorboard", "checkpoint", "generate", "export"]),
        (
            ("--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "csv"),
            ["logs", "checkpoint", "generate", "export"],
        ),
        (("--trainer.logger", "false"), ["checkpoint", "generate", "export"]),
        (("--trainer.enable_checkpointing", "false"), ["tensorboard"]),
        (("--trainer.fast_dev_run", "true"), []),
    ],
    ids=["tensorboard", "csv", "no-logger", "no-checkpoint", "fast"],
)
def test_printed_paths_exist(
    args: tuple[str, ...],
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    main("fit", *METHANOL, *SHORT, *args)
    out = capsys.readouterr().out
    printed = re.findall(r"^(tensorboard|logs|checkpoint|generate|export) ", out, re.MULTILINE)
    assert printed == said
    paths = re.findall(r"(?<=[ =])(?:runs|csv)/\S+", out)
    assert bool(paths) == bool(said)
    for path in paths:
        assert Path(path).exists(), path


@pytest.mark.parametrize(
    ("steps", "validated"), [("6", [3]), ("3", [2])], ids=["longer than the interval", "shorter"]
)
def test_validation_interval_beyond_the_epoch(
    steps: str, validated: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With two batches an epoch, every fourth counts over epochs, or the end of the run."""
    root = ("--trainer.default_root_dir", str(tmp_path), "--trainer.max_steps", steps)
    main("fit", *METHANOL, *SHORT, *root, "--trainer.val_check_interval", "4")
    # Lightning counts the steps of what it logs from 0.
    assert [event.step for event in board(tmp_path).Scalars("val/loss")] == validated
    assert "over epochs: an epoch has 2, trainer.val_check_interval is 4" in capsys.readouterr().out
