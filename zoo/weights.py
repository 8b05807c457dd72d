"""Weights on disk: a checkpoint file, the folder of a sharded run, an exported folder.

What is read is compared with the module first, names and shapes, so that weights which do not fit
are one line of error. A sharded checkpoint holds the step of each process, so that a folder with
files of two steps is refused.
"""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from zoo.errors import InputError
from zoo.model_files import from_folder

if TYPE_CHECKING:
    from zoo.module import ZooModule

log = logging.getLogger(__name__)
SIDE, CARD = "zoo.safetensors", "zoo.json"  # of an exported folder
SHARDS, REST = ".metadata", "meta.pt"  # of a sharded checkpoint: where tensors are, all else
STEP = "step_of_process_"  # in a sharded checkpoint: the optimiser steps at which a process wrote
Shapes = Mapping[str, tuple[int, ...]]


def load_weights(module: ZooModule, source: str | Path) -> None:
    """Load weights alone into a built module.

    Args:
        module: A method after `build`, before sharding.
        source: Lightning checkpoint (file, or folder of a sharded run) or exported folder.

    Raises:
        InputError: Nothing is there, or its parameters are not this module's.
    """
    path = Path(source)
    if path.is_file():
        state = read_checkpoint(path)["state_dict"]
    elif (path / CARD).is_file():
        state = load_file(path / SIDE)
        for part in module.pretrained():
            plain = from_folder(type(part.model), str(path / part.folder), "weights", dtype="auto")
            state |= {f"{part.path}.{name}": value for name, value in plain.state_dict().items()}
        own_names = {name.replace(".base_layer", ""): name for name in module.state_dict()}
        state = {own_names.get(name, name): value for name, value in state.items()}
    elif (path / SHARDS).is_file():
        state = _sharded_state(module, path)
    else:
        raise InputError(no_weights(path))
    new = starting_new(module, state)
    if new:
        log.warning("%s has no %s: they start untrained", source, ", ".join(sorted(new)))
        state |= new
    compare(module, shapes(state), path)
    module.load_state_dict(state)


def starting_new(module: ZooModule, found: Container[str]) -> dict[str, Tensor]:
    """Return the module's own values of parameters that weights may lack, and that `found` lacks.

    Args:
        module: Says which may be missing.
        found: Names in the weights.
    """
    return {
        name: value
        for name, value in module.state_dict().items()
        if name.startswith(module.may_start_new) and name not in found
    }


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by name; of a shard, that of the whole."""
    return {name: tuple(value.shape) for name, value in state.items()}


def compare(module: ZooModule, found: Shapes, source: Any) -> None:
    """Refuse weights that are not those of a built module.

    Args:
        module: Its parameters are the right ones.
        found: Shapes of the weights in `source`.
        source: Named in the error.

    Raises:
        InputError: A parameter is missing, unknown or has another shape.
    """
    own = shapes(module.state_dict())
    missing, extra = sorted(set(own) - set(found)), sorted(set(found) - set(own))
    if missing or extra:
        raise InputError(
            f"{source}: parameters differ from {type(module).__name__}'s: "
            f"{len(missing)} missing ({', '.join(missing[:3])}), "
            f"{len(extra)} unknown ({', '.join(extra[:3])}); use the settings it was made with"
        )
    other = [name for name in own if found[name] != own[name]]
    if other:
        first = other[0]
        raise InputError(
            f"{source}: {len(other)} parameters have other shapes than {type(module).__name__}'s, "
            f"the first is {first}: {list(found[first])}, not {list(own[first])}; use the backbone "
            f"and settings it was made with"
        )


def read_settings(path: Path) -> dict[str, Any]:
    """Return the constructor's arguments of the module whose weights lie somewhere.

    Args:
        path: Exported folder, sharded checkpoint or `.ckpt` file; of anything else none are known.

    Raises:
        InputError: It is damaged.
    """
    settings: dict[str, Any] = {}
    if (path / CARD).is_file():
        settings = read_card(path)["hyper_parameters"]
    elif (path / SHARDS).is_file():
        settings = _read_rest(path).get("hyper_parameters", {})
    elif path.is_file() and path.suffix == ".ckpt":
        settings = read_checkpoint(path).get("hyper_parameters", {})
    return settings


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a checkpoint file holds, its tensors mapped and not yet read.

    Raises:
        InputError: There is nothing of that name, or it is damaged.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        content["state_dict"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no checkpoint, or a damaged one") from error
    return content


def read_card(folder: Path) -> dict[str, Any]:
    """Return what an exported folder says of itself: its class and the constructor's arguments.

    Raises:
        InputError: It is damaged.
    """
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text("utf-8"))
        card["class"], card["hyper_parameters"], card["pretrained"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / CARD}: damaged ({error}); export the module again") from error
    return card


def check_source(path: Path, *, resume: bool, sharded: bool) -> None:
    """Refuse what Lightning cannot go on from, before a model is built.

    Args:
        path: What `--ckpt_path` names.
        resume: Training goes on, so the optimiser's state is needed.
        sharded: The trainer's strategy shards weights.

    Raises:
        InputError: It is missing, damaged, of several steps, or holds too little.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    weights = f"{path}: holds weights only; start from them with --init_from {path}"
    if path.is_file():
        content = read_checkpoint(path)
        if resume and not content.get("optimizer_states"):
            raise InputError(weights)
    elif (path / SHARDS).is_file():
        names = check_shards(path)
        if resume and not any(name.startswith("optimizer_0.") for name in names):
            raise InputError(weights)
        if resume and not sharded:
            raise InputError(
                f"{path}: a sharded checkpoint goes on under the strategy of overlays/fsdp2.yaml; "
                f"elsewhere take its weights: --init_from {path}"
            )
    elif not (path / CARD).is_file():
        raise InputError(no_weights(path))
    elif resume:
        raise InputError(weights)


def no_weights(folder: Path) -> str:
    """Return a complaint about a folder that is no source of weights, with the nearest one."""
    below = [folder / "last.ckpt", folder / "checkpoints" / "last.ckpt"]  # of a run
    near = "".join(f"; did you mean {path}?" for path in below if path.exists())
    return f"{folder}: neither a checkpoint nor an exported folder{near}"


def check_shards(path: Path) -> dict[str, Any]:
    """Return what a sharded checkpoint holds by name, after looking at the step of each process.

    Raises:
        InputError: It is damaged, or its files were written at several steps.
    """
    import torch.distributed.checkpoint as dcp

    reader = dcp.FileSystemReader(path)
    try:
        names = reader.read_metadata().state_dict_metadata
        marks = {n: torch.tensor(-1) for n in names if n.startswith(f"state_dict.{STEP}")}
        dcp.load(marks, storage_reader=dcp.FileSystemReader(path), no_dist=True)
    except (OSError, EOFError, pickle.UnpicklingError, RuntimeError) as error:
        raise InputError(f"{path}: a damaged checkpoint") from error
    steps = {_read_rest(path)["global_step"], *(int(mark) for mark in marks.values())}
    if len(steps) > 1:
        raise InputError(
            f"{path}: its files were written at steps {', '.join(map(str, sorted(steps)))}; "
            f"use another checkpoint"
        )
    return names


def check_sharded(module: ZooModule, path: Path) -> None:
    """Refuse a sharded checkpoint that is mixed or not this module's.

    Raises:
        InputError: See `check_shards` and `compare`.
    """
    compare(module, _sharded_shapes(path), path)


def _sharded_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights in a sharded checkpoint, after `check_shards`."""
    prefix = "state_dict."
    return {
        name.removeprefix(prefix): tuple(entry.size)
        for name, entry in check_shards(path).items()
        if name.startswith(prefix) and not name.startswith(prefix + STEP)
    }


def _read_rest(path: Path) -> dict[str, Any]:
    """Return what a sharded checkpoint holds beside tensors.

    Raises:
        InputError: It is damaged.
    """
    try:
        rest: dict[str, Any] = torch.load(path / REST, map_location="cpu", weights_only=True)
    except (OSError, EOFError, pickle.UnpicklingError, RuntimeError) as error:
        raise InputError(f"{path}: a damaged checkpoint") from error
    return rest


def _sharded_state(module: ZooModule, path: Path) -> dict[str, Tensor]:
    """Read the weights of a sharded checkpoint into full tensors, in one process.

    What may be missing in it and is missing is left out.
    """
    import torch.distributed.checkpoint as dcp

    found = _sharded_shapes(path)
    new = starting_new(module, found)
    compare(module, found | shapes(new), path)
    own = {k: torch.empty_like(v) for k, v in module.state_dict().items() if k not in new}
    state = {"state_dict": own}
    dcp.load(state, storage_reader=dcp.FileSystemReader(path), no_dist=True)
    return own
