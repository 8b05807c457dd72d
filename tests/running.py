"""Run the command line in a test: in this process or in one of its own."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch  # noqa: F401  its log writes to the stderr of this moment, not of one test
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import zoo

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
KINDS = ("scalars", "images", "tensors")  # of TensorBoard: all of each are read
FSDP2 = str(CONFIGS / "overlays" / "fsdp2.yaml")
LORA = str(CONFIGS / "overlays" / "lora.yaml")


def overlays(config: str) -> tuple[str, ...]:
    """Return the arguments that make a config tiny: its paper's overlay, and its own if any."""
    settings = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())
    method = settings["model"]["class_path"].removeprefix("zoo.")
    paper = zoo._HOME[method].split(".")[2]  # zoo.methods.PAPER.module
    folder = ROOT / "tests" / "methods" / paper
    own = folder / f"tiny_{config}.yaml"
    paths = [folder / "tiny.yaml", *([own] if own.is_file() else [])]
    return tuple(argument for path in paths for argument in ("--config", str(path)))


def tiny(config: str) -> tuple[str, ...]:
    """Return the arguments of a config on a tiny random backbone, everything else as written."""
    return ("--config", str(CONFIGS / f"{config}.yaml"), *overlays(config))


METHANOL = tiny("methanol")


def last(folder: Path) -> Path:
    """Return the last checkpoint of a run folder."""
    return folder / "checkpoints" / "last.ckpt"


def load(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds."""
    return torch.load(path, weights_only=True, map_location="cpu")


def board(folder: Path) -> EventAccumulator:
    """Return all that a run has written for TensorBoard."""
    return EventAccumulator(str(folder), size_guidance=dict.fromkeys(KINDS, 0)).Reload()


def scalars(folder: Path) -> dict[str, float]:
    """Return the last value of each scalar in TensorBoard."""
    events = board(folder)
    return {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}


def free_port() -> int:
    """Return a free port for processes to meet at, below those that outgoing connections get.

    One among those may be taken by a connection between the choice and the use.
    """
    while True:
        port = random.SystemRandom().randrange(20000, 30000)  # tests seed the other one
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):  # nobody answers
                return port


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of a process that runs the zoo from any folder."""
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    quiet["MASTER_PORT"] = str(free_port())
    inherited = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "ZOO_RUN_DIR")}
    return {**inherited, **quiet, "PYTHONPATH": os.pathsep.join(paths), **extra}


def start(*args: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """Start `python -m zoo ARGS` with its output in pipes."""
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    return subprocess.Popen(
        [sys.executable, "-m", "zoo", *args], cwd=cwd, env=environment(), text=True, **options
    )


def command(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m zoo ARGS` to its end."""
    process = start(*args, cwd=cwd)
    out, err = process.communicate(timeout=600)
    return subprocess.CompletedProcess(args, process.returncode, out, err)


def main(*args: str) -> None:
    """Run the command line in this process."""
    from zoo.cli.main import main as run

    run(list(args))


def refusal(
    capfd: pytest.CaptureFixture[str],
    folder: Path,
    *args: str,
    verb: str = "fit",
    given: tuple[str, ...] = METHANOL,
) -> str:
    """Run a command that must fail; return its one line, without `error: `."""
    before = sorted(folder.rglob("*"))
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(verb, *given, *args)
    out, err = capfd.readouterr()
    assert stopped.value.code == 2
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    assert out == ""
    assert sorted(folder.rglob("*")) == before, "something was written"
    return err.removeprefix("error: ").strip()
