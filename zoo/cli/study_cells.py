"""A cell of a study: an ordinary `fit` in a process of its own, that may be killed and goes on.

A cell NAME of a study has in the folder `cells`:

    NAME/        run folder of its fit, with the checkpoints
    NAME.log     what the fit printed
    NAME.json    what was measured; a cell that has it is done
    NAME.lock    held by the fit and by the study while the fit runs
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from zoo.errors import InputError, nearest
from zoo.study import StudyCell
from zoo.weights import REST

LONGEST_NAME = 100  # characters of a folder's name


DIVERGED = "the loss diverged"  # what a fit says as its last, see `zoo.optimizer`


class KilledError(Exception):
    """The process of a fit was ended by a signal."""


class DivergedError(InputError):
    """A fit stopped because its gradient was not finite."""


class UnmeasuredError(InputError):
    """A fit logged no such measure, or not at its end."""


def as_options(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as options of the command line; what is no text as JSON, which is YAML."""
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in settings.items()}
    return [part for key, text in texts.items() for part in (f"--{key}", text)]


def cell_name(settings: Mapping[str, Any]) -> str:
    """Return the name of a cell: `ratio=0.33,lr=0.001`.

    A key is its last part where no two keys share it; a long name is cut, with a digest.
    """
    last = [key.rpartition(".")[2] for key in settings]
    keys = last if len(set(last)) == len(last) else list(settings)
    texts = (v if isinstance(v, str) else json.dumps(v) for v in settings.values())
    name = ",".join(f"{key}={text}" for key, text in zip(keys, texts, strict=True))
    safe = "".join(c if c.isalnum() or c in "=,.+-_" else "_" for c in name)
    if safe == name and len(safe) <= LONGEST_NAME:
        return safe
    return f"{safe[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold a lock file; a fit that outlived its study still holds it, and is waited for."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def run_cell(
    folder: Path,
    configs: Sequence[str],
    settings: Mapping[str, Any],
    fixed: Mapping[str, Any],
    measure: Mapping[str, str],
    verb: str = "fit",
) -> StudyCell:
    """Run a fit to its end, from its last checkpoint if it has one; return what was measured.

    Args:
        folder: `cells/NAME` of the study.
        configs: Configs of the fit, in order.
        settings: Value of each varied key.
        fixed: Other keys that the study sets.
        measure: Name in the study -> name under which the fit logs it.
        verb: `fit`, or `validate` for the model that all start from.

    Raises:
        KilledError: The fit was killed; run the cell again.
        DivergedError: Its gradient is not finite; it diverges again if it is run again.
        InputError: The fit failed, logs no such measure, or is not validated at its end.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = folder.with_name(f"{folder.name}.json")
    with locked(folder.with_name(f"{folder.name}.lock")) as lock:
        if not done.is_file():
            given = [part for config in configs for part in ("--config", config)]
            given += as_options({**fixed, **settings})
            given += ["--trainer.default_root_dir", str(folder)]
            resumed = _checkpoint(folder).exists()
            _run(verb, folder, given, lock)
            try:
                cell = _measured(verb, folder, settings, measure)
            except UnmeasuredError:
                if not resumed:
                    raise
                shutil.rmtree(folder)  # killed in its last validation, which no fit goes back to
                _run(verb, folder, given, lock)
                cell = _measured(verb, folder, settings, measure)
            part = done.with_suffix(".part")
            part.write_text(json.dumps(asdict(cell)) + "\n", "utf-8")
            part.replace(done)
    return StudyCell(**json.loads(done.read_text("utf-8")))


def _run(verb: str, folder: Path, given: Sequence[str], lock: int) -> None:
    """Run a verb in a process that inherits the lock."""
    checkpoint = _checkpoint(folder)
    if checkpoint.exists():
        given = [*given, "--ckpt_path", str(checkpoint)]
    else:
        shutil.rmtree(folder, ignore_errors=True)  # killed before its first checkpoint
    log = folder.with_name(f"{folder.name}.log")
    command = [sys.executable, "-m", "zoo", verb, *given]
    with log.open("ab") as file:
        start = file.tell()
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, pass_fds=[lock]
        ) as process:
            code = process.wait()
    if code < 0 or code >= 128:
        raise KilledError(f"{folder.name}: its fit was killed by signal {-code}")
    if code:
        said = log.read_bytes()[start:].decode("utf-8", "replace").strip().splitlines()
        last = said[-1] if said else str(code)
        error = DivergedError if DIVERGED in last else InputError
        raise error(f"cell {folder.name}: {last}; see {log}")


def _measured(
    verb: str, folder: Path, settings: Mapping[str, Any], measure: Mapping[str, str]
) -> StudyCell:
    """Read what a fit logged for TensorBoard; of a step logged twice, the later one.

    Raises:
        UnmeasuredError: It is not there, or the last validation is before the last step.
    """
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = board.Tags()["scalars"]
    curves: dict[str, list[tuple[int, float]]] = {}
    for name, tag in measure.items():
        if tag not in tags:
            known = [t for t in tags if t.startswith("val")] or tags
            said = f"measure.{name}: the fit logs no {tag!r}; {nearest(tag, known)}"
            raise UnmeasuredError(said)
        events = sorted(board.Scalars(tag), key=lambda event: event.wall_time)
        curves[name] = sorted({event.step + 1: event.value for event in events}.items())
    last, end = min(curve[-1][0] for curve in curves.values()), _steps(verb, folder)
    if last < end:
        raise UnmeasuredError(
            f"cell {folder.name}: its last validation is at step {last} of {end}; choose a "
            f"trainer.val_check_interval that validates at the last step"
        )
    return StudyCell(dict(settings), {n: curve[-1][1] for n, curve in curves.items()}, curves)


def _steps(verb: str, folder: Path) -> int:
    """Return the optimiser steps of a finished fit.

    They are those of its config, or where something else may end it first, of its last checkpoint.
    """
    if verb != "fit":
        return 0
    trainer = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))["trainer"]
    others = (trainer["max_epochs"] or -1) > 0, trainer["max_time"], trainer["callbacks"]
    if trainer["max_steps"] > 0 and not any(others):
        return int(trainer["max_steps"])
    checkpoint = _checkpoint(folder)
    file = checkpoint / REST if checkpoint.is_dir() else checkpoint
    return int(torch.load(file, map_location="meta", weights_only=True)["global_step"])


def _checkpoint(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"
