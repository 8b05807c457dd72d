"""Runs that are killed, and the settings and weights that a resumed run is compared by."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import torch
from recorder import overlay
from running import LORA, METHANOL, last, load

# 27 micro-batches an epoch are 14 optimiser steps; the last one has a single micro-batch.
DATA = ("--data.num_train", "53", "--data.num_val", "4", "--data.batch_size", "2")
RUN = (
    *(*METHANOL, "--config", LORA, "--model.backbone.lora.dropout", "0.2", *DATA),
    *("--trainer.accumulate_grad_batches", "2", "--checkpoint.every_n_train_steps", "3"),
    *("--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", "12"),
    *("--trainer.max_steps", "18", "--model.optimizer.lr", "0.01"),
)
STEPS = 18


def arguments(
    tmp_path: Path, name: str, log: str, pause: float = 0.0, run: tuple[str, ...] = RUN
) -> tuple[str, ...]:
    more = overlay(tmp_path / f"{log}.yaml", tmp_path / log, pause=pause)
    root = ("--trainer.default_root_dir", str(tmp_path / name))
    return ("fit", *run, "--config", more, *root)


def same_weights(one: Path, other: Path, step: int = STEPS) -> None:
    ours, theirs = load(one), load(other)
    assert ours["global_step"] == theirs["global_step"] == step
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, value in ours["state_dict"].items():
        assert torch.equal(value, theirs["state_dict"][name]), name
    moments = ours["optimizer_states"][0]["state"], theirs["optimizer_states"][0]["state"]
    for index, state in moments[0].items():
        for name, value in state.items():
            assert torch.equal(value, moments[1][index][name]), (index, name)


def kill_after(process: Any, folder: Path, step: int) -> int:
    """Kill the run once a checkpoint of at least `step` is there; return the step it has.

    Every look at `last.ckpt` on the way must find a whole file.
    """
    deadline = time.monotonic() + 300
    found = 0
    while found < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        if last(folder).exists():
            found = load(last(folder))["global_step"]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return load(last(folder))["global_step"]
