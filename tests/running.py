"""Run the command line in a test: in this process or in one of its own."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONFIG = str(ROOT / "configs" / "methanol.yaml")
TINY = (
    *("--model.backbone.name", "tiny-llama", "--model.max_length", "4096"),
    *("--trainer.accelerator", "cpu", "--trainer.precision", "32-true"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--model.max_thought_tokens", "4", "--model.max_answer_tokens", "4"),
)
SMALL = (*TINY, "--model.thinking_layer", "2")
JEPA = (
    *("--config", str(ROOT / "configs" / "m3_jepa.yaml")),
    *("--config", str(ROOT / "tests" / "tiny_towers.yaml")),
)


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
    given: tuple[str, ...] = ("--config", CONFIG, *SMALL),
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
