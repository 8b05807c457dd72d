"""What encoded examples depend on, as a name: files, settings of data and method, tokenizer, code.

What cannot be named for sure (a model in an encoder, a record in a setting) has no fingerprint, and
examples without one are encoded anew: an old result is never taken for a new one.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoo.cache import root

MOVING = re.compile("hf://(?!.*@[0-9a-f]{40}$)")  # what a name without a commit holds may change
LIBRARIES = ("transformers", "tokenizers", "datasets")  # whose versions count
PACKAGES = ("zoo", "datamodules")  # whose code counts


class UnnamableError(Exception):
    """A setting that has no text of its own."""


def fingerprint(data: Any, settings: Mapping[str, Any], encoder: Any) -> str | None:
    """Return 32 hex digits for the examples of a data module; None if something cannot be named.

    Args:
        data: The data module; the code of its class counts.
        settings: Its attributes that change examples. A text that is the path of a file or folder
            counts with the names, sizes and times of change of its files; nothing is read.
        encoder: The method's encoder; its public attributes count, and the code of its class.
    """
    try:
        parts = [
            [code(type(data)), type(data).__qualname__, named(dict(settings)), files_of(settings)],
            [code(type(encoder)), type(encoder).__qualname__, named(public(encoder))],
        ]
    except UnnamableError:
        return None
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def public(thing: Any) -> dict[str, Any]:
    """Return the attributes of an object that have no underscore before their name."""
    names = [f.name for f in fields(thing)] if is_dataclass(thing) else []
    names += list(getattr(thing, "__dict__", {}))
    return {name: getattr(thing, name) for name in names if not name.startswith("_")}


def named(value: Any) -> Any:
    """Return a setting as JSON-like data.

    Raises:
        UnnamableError: There is none that says everything.
    """
    if isinstance(value, str) and MOVING.match(value):
        raise UnnamableError(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [named(item) for item in value]
    if isinstance(value, dict):
        return [[named(key), named(item)] for key, item in value.items()]
    if isinstance(value, type):
        return [value.__module__, value.__qualname__]
    backend = getattr(value, "backend_tokenizer", None)
    if backend is not None:  # a fast tokenizer: its whole content, and what wraps it
        whole = hashlib.sha256(backend.to_str().encode()).hexdigest()
        special = {name: str(text) for name, text in value.special_tokens_map.items()}
        return [whole, named(special), named(value.chat_template)]
    if is_dataclass(value):
        return [named(type(value)), named(public(value))]
    raise UnnamableError(type(value).__name__)


def files_of(value: Any) -> list[Any]:
    """Return (path, size, time of change) of all files that settings name."""
    if isinstance(value, Mapping):
        return [found for item in value.values() for found in files_of(item)]
    if isinstance(value, list | tuple):
        return [found for item in value for found in files_of(item)]
    if not isinstance(value, str | Path):
        return []
    path = Path(os.path.expandvars(value)).expanduser()
    return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in _files(path)]


def _files(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the files of a path in a fixed order; for a file inside an archive the archive.

    What the zoo's own cache holds does not count, should it lie in a folder of data.
    """
    try:
        if path.is_dir():
            cache_folder = root().resolve()
            for folder, below, names in os.walk(path, followlinks=True):
                below[:] = sorted(b for b in below if Path(folder, b).resolve() != cache_folder)
                for name in sorted(names):
                    yield Path(folder, name), os.stat(Path(folder, name))
        elif path.is_file():
            yield path, path.stat()
        elif path.parent.suffix == ".zip" and path.parent.is_file():
            yield path.parent, path.parent.stat()
    except (OSError, ValueError):  # a text that is no path, or a link to nowhere
        return


def code(cls: type) -> str:
    """Return a digest of the code that encodes: this project's, a class's own, and libraries'."""
    digest = hashlib.sha256(_code_here().encode())
    for base in cls.__mro__[:-1]:
        if base.__module__.partition(".")[0] not in PACKAGES:
            try:
                digest.update(inspect.getsource(inspect.getmodule(base) or base).encode())
            except (OSError, TypeError) as error:  # made at a prompt
                raise UnnamableError(base.__qualname__) from error
    return digest.hexdigest()


@cache
def _code_here() -> str:
    digest = hashlib.sha256(" ".join(version(name) for name in LIBRARIES).encode())
    for package in PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(folder).rglob("*.py")):
                digest.update(path.read_bytes())
    return digest.hexdigest()
