"""Results that take long to compute and depend on their inputs alone, kept in `$ZOO_CACHE`.

The inputs are divided into chunks, a chunk is a file, and a file appears whole or not at all: a
killed process loses the chunk that it was computing. Processes that want the same results wait for
the one that computes them. The digests of settings and of weights, which name files, are here too,
and what is asked of a place before hours of work end in a file there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import InputError

CHUNK = 256  # inputs
SAMPLED = 256  # numbers of a tensor that `quick_weights_digest` looks at, or a few more


def root() -> Path:
    """Return the cache folder: `$ZOO_CACHE`, by default `~/.cache/zoo`."""
    return Path(os.environ.get("ZOO_CACHE", "~/.cache/zoo")).expanduser()


def remember(
    kind: str,
    key: Any,
    items: Sequence[Any],
    compute: Callable[[Sequence[Any]], Sequence[Any]],
    *,
    chunk: int = CHUNK,
) -> list[Any]:
    """Return `compute(items)`, from the cache where it was computed before.

    Args:
        kind: Folder of the results, for example `doubt`.
        key: Everything but the items that the results depend on; JSON-like.
        items: Inputs, JSON-like.
        compute: Gives a JSON-like result for each input; called with a chunk at a time.
        chunk: Inputs per file.
    """
    results: list[Any] = []
    for start in range(0, len(items), chunk):
        part = items[start : start + chunk]
        name = hashlib.sha256(json.dumps([key, list(part)]).encode()).hexdigest()[:32]
        path = root() / kind / f"{name}.json"
        if not path.is_file():
            _fill(path, part, compute)
        results += json.loads(path.read_text())
    return results


def fingerprint(folder: str) -> list[Any]:
    """Return what identifies the model in a folder: its config and its weight files.

    Weights count with place, size and time of change; nothing of them is read.
    """
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise InputError(f"{folder}: holds no config.json")
    weights = sorted(path.glob("*.safetensors"))
    stats = [(file.resolve().as_posix(), file.stat()) for file in weights]
    return [
        (path / "config.json").read_text(),
        [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
    ]


def digest(value: Any) -> str:
    """Return 16 hex digits that name a JSON-like value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def weights_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return 16 hex digits that name some weights: names, types, shapes and every byte.

    Args:
        tensors: Names and tensors, none of them sharded.
    """
    hasher = hashlib.sha256()
    for name, tensor in sorted(tensors):
        hasher.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        hasher.update(data.numpy().data)
    return hasher.hexdigest()[:16]


def quick_weights_digest(tensors: Iterable[Tensor]) -> str:
    """Return 16 hex digits that differ once weights have changed, found in a moment.

    They name the weights of this process alone: a few numbers of each tensor, and how often
    PyTorch has counted a change. Fused optimisers and `.data` are not counted, so what they change
    is seen in the numbers; a single number that is changed through `.data` may stay unseen.

    Args:
        tensors: None of them sharded.
    """
    hasher = hashlib.sha256()
    for tensor in tensors:
        count = 0 if tensor.is_inference() else tensor._version
        flat = tensor.detach().flatten()
        few = flat[:: len(flat) // SAMPLED or 1].float().cpu()
        hasher.update(f"{count} {list(tensor.shape)} {tensor.dtype} {tensor.device}\n".encode())
        hasher.update(few.numpy().tobytes())
    return hasher.hexdigest()[:16]


def check_new_file(path: Path, name: str = "output") -> None:
    """Refuse a file that exists or could not be written; nothing is left behind.

    Args:
        path: What `whole_file` will write.
        name: The option that named it.

    Raises:
        InputError: It exists, or its folder is none or not ours to write to, or a name is too long.
    """
    if exists_or_writable(path, name):
        raise InputError(f"{name}: {path} exists; name a new file")


def exists_or_writable(path: Path, name: str = "output") -> bool:
    """Return whether a file exists.

    Args:
        path: The file.
        name: The option that named it.

    Raises:
        InputError: It does not, and could not be written.
    """
    try:
        if path.exists():
            return True
        folder = next(parent for parent in path.parents if parent.exists())
        longest = max(path.relative_to(folder).parts, key=lambda part: len(os.fsencode(part)))
        scratch = _scratch(folder / longest)
        scratch.touch()
        scratch.unlink()
    except OSError as error:
        raise InputError(
            f"{name}: {path} cannot be written ({error.strerror}); name a file in a folder where "
            f"it can"
        ) from error
    return False


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield where to write a file, which then appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(path)
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _scratch(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _fill(path: Path, part: Sequence[Any], compute: Callable[..., Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.with_suffix(".lock")):
        if path.is_file():  # another process was first
            return
        results = list(compute(part))
        if len(results) != len(part):
            raise RuntimeError(f"{len(results)} results for {len(part)} inputs")
        with whole_file(path) as scratch:
            scratch.write_text(json.dumps(results))


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a file lock, which the system releases when the process ends in any way."""
    import fcntl

    while True:
        with path.open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if not path.exists() or not os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                continue  # the holder before has removed it
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
