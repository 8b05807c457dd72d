"""Two processes (gloo) that run commands of the zoo together, one command after the other."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from recorder import lines, overlay
from running import FSDP2, environment, main

DDP = ("--trainer.strategy", "ddp", "--trainer.devices", "2")
SHARDED = ("--config", FSDP2, "--trainer.accelerator", "cpu", "--trainer.precision", "32-true")
Steps = list[tuple[float, float]]


class ProcessPair:
    """Two processes that stay, so that not every run has to import everything anew.

    Args:
        folder: Folder of their logs.
        patience: Seconds that a command may take.
    """

    def __init__(self, folder: Path, patience: float = 240) -> None:
        self.folder, self.patience = folder, patience
        self.processes: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        """Start both processes; they meet at their first command."""
        shared = environment(MASTER_ADDR="127.0.0.1", WORLD_SIZE="2", NODE_RANK="0")
        for rank in range(2):
            with (self.folder / f"log.{rank}").open("w") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "process_pair"],
                    **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log},
                    env={**shared, "LOCAL_RANK": str(rank)},
                    cwd=self.folder,
                    text=True,
                )
            self.processes.append(process)

    def stop(self) -> None:
        """Kill both processes."""
        for process in self.processes:
            process.kill()
            process.communicate()
        self.processes = []

    def run(self, *args: str) -> None:
        """Run a command in both processes; fail the test if it fails or hangs in one of them."""
        if not self.processes:
            self.start()
        request = json.dumps({"args": args, "cache": os.environ.get("ZOO_CACHE", "")})
        for process in self.processes:
            print(request, file=process.stdin, flush=True)
        answers = selectors.DefaultSelector()
        for rank, process in enumerate(self.processes):
            answers.register(process.stdout, selectors.EVENT_READ, rank)
        for _ in self.processes:
            ready = answers.select(self.patience)
            said = ready[0][0].fileobj.readline() if ready else ""
            if said.strip() != "done":  # the other one waits for it for ever
                logs = [(self.folder / f"log.{rank}").read_text()[-3000:] for rank in range(2)]
                self.stop()
                pytest.fail("\n".join(["a process failed or hangs", *logs]))
            answers.unregister(ready[0][0].fileobj)


def serve() -> None:
    """Run the commands that come from standard input; answer `done` or nothing."""
    import torch

    torch.set_num_threads(1)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever is printed goes to the log
    for line in sys.stdin:
        request = json.loads(line)
        if request["cache"]:
            os.environ["ZOO_CACHE"] = request["cache"]
        try:
            main(*request["args"])
        except BaseException:
            traceback.print_exc()
            sys.exit(1)
        print("done", file=replies, flush=True)


def recorded(folder: Path, *args: str) -> tuple[str, ...]:
    """Return the arguments of a `fit` in a folder that writes its steps down."""
    folder.mkdir()
    more = overlay(folder / "recorder.yaml", folder / "log")
    root = ("--trainer.default_root_dir", str(folder))
    return ("fit", *args, "--config", more, *root, "--trainer.log_every_n_steps", "1")


def steps(folder: Path, ranks: int = 1) -> Steps:
    """Return loss and gradient norm of every optimiser step of a run that wrote them down."""
    logs = [lines(folder / "log", rank) for rank in range(ranks)]
    assert len({len(log) for log in logs}) == 1
    found, loss, before = [], 0.0, 0
    for batches in zip(*logs, strict=True):
        loss += sum(line["loss"] for line in batches) / ranks
        if batches[0]["step"] > before:  # the last micro-batch of a step
            found.append((loss, batches[0]["norm"]))
            loss, before = 0.0, batches[0]["step"]
    return found


def same_steps(ours: Steps, theirs: Steps) -> None:
    """Assert that two runs took the same steps."""
    assert len(ours) == len(theirs)
    for (loss, norm), (other, other_norm) in zip(ours, theirs, strict=True):
        assert loss == pytest.approx(other, abs=1e-5)
        assert norm == pytest.approx(other_norm, rel=2e-4, abs=1e-7)
    assert ours[-1][1] > 0, "it does not train"


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        serve()
