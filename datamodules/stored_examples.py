"""Encoded training examples on disk: written once per machine, memory-mapped by every process.

The examples of a split are a folder of Arrow files in `$ZOO_CACHE/examples`, named by what they
depend on (`datamodules.fingerprint`). It appears whole or not at all: a process that is killed
while it encodes leaves a folder `.part`, which the next one replaces. Processes that want the same
examples wait for the one that writes them.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import datasets
import numpy as np
import pyarrow.compute as pc
from datasets import Features, List, Value
from datasets.exceptions import DatasetGenerationError

from datamodules.sizes import Sizes
from zoo.cache import alone, root
from zoo.errors import InputError

PIECE = 1000  # records that a process encodes before it takes more
SCALARS: dict[Any, str] = {int: "int64", float: "float64", str: "string", bool: "bool"}
SIZES = {
    "_length": Value("int64"),
    "_heads": List(Value("int64")),
    "_weights": List(Value("float64")),
    "_group": Value("string"),
}


class StoredExamples(Sequence[Any]):
    """Examples of a folder; each is made anew when it is asked for, without its record.

    Attributes:
        folder: Where they are.
        sizes: Their lengths, weights and groups.
    """

    def __init__(self, folder: Path, kind: type) -> None:
        files = sorted(str(path) for path in folder.rglob("*.arrow"))
        table = datasets.concatenate_datasets([datasets.Dataset.from_file(file) for file in files])
        self.folder, self.kind = folder, kind
        self._rows = table.remove_columns(list(SIZES))
        hints = get_type_hints(kind)
        self._tuples = [name for name in self._rows.column_names if _origin(hints[name]) is tuple]
        self._absent = dict.fromkeys({"record"} & hints.keys())
        lengths, heads, weights, groups = (table.data.column(name) for name in SIZES)
        self.sizes = Sizes(
            lengths=lengths.to_numpy(),
            offsets=np.concatenate([[0], np.cumsum(pc.list_value_length(heads).to_numpy())]),
            heads=pc.list_flatten(heads).to_numpy(),
            weights=pc.list_flatten(weights).to_numpy(),
            groups=None if groups.null_count == len(groups) else groups.to_pylist(),
        )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.sizes)

    def __getitem__(self, index: Any) -> Any:
        """Return an example; its `record` is None."""
        row = self._rows[int(index)]
        tuples = {name: tuple(row[name]) for name in self._tuples}
        return self.kind(**(row | tuples | self._absent))


def stored(
    name: str,
    encoder: Any,
    records: Callable[[], Sequence[Any]],
    num_proc: int | None,
) -> StoredExamples:
    """Open the examples of this name; encode them first if no process has.

    Args:
        name: What they depend on, see `datamodules.fingerprint`.
        encoder: The method's encoder, one that `storable` gave a type for.
        records: Reads the records; called only to encode.
        num_proc: Processes that encode; None for this one alone.

    Raises:
        InputError: The encoder refuses a record.
    """
    kind = storable(encoder)
    if kind is None:
        raise TypeError(f"examples of {type(encoder).__name__} cannot be stored")
    folder = root() / "examples" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        with alone(folder.with_suffix(".lock")):
            if not folder.is_dir():  # no other process was first
                _write(folder, encoder, kind, records(), num_proc)
    return StoredExamples(folder, kind)


def storable(encoder: Any) -> type | None:
    """Return the type of an encoder's examples if they can be stored, else None.

    They can if its `__call__` says their type, whose fields are numbers, texts, and lists or tuples
    of those, but for a `record` that may be None; if training does not need records; and if
    nothing is studied before a record is encoded.
    """
    if hasattr(encoder, "study") or getattr(encoder, "needs_records", False):
        return None
    try:
        kinds = get_args(get_type_hints(type(encoder).__call__).get("return"))
        hints = get_type_hints(kinds[0])
        _features(kinds[0])
    except (NameError, TypeError, IndexError, KeyError):  # no types, or not of this form
        return None
    record = hints.get("record", Any)
    return kinds[0] if record is Any or NoneType in get_args(record) else None


def _features(kind: type) -> Features:
    hints = get_type_hints(kind)
    return Features({f.name: _feature(hints[f.name]) for f in fields(kind) if f.name != "record"})


def _feature(hint: Any) -> Any:
    """Return the Arrow type of a field; raises KeyError where there is none."""
    if _origin(hint) in (list, tuple):
        inner = get_args(hint)[0]
        return List(Value("int32") if inner is int else _feature(inner))  # ids are small
    return Value(SCALARS[hint])


def _origin(hint: Any) -> Any:
    return get_origin(hint)


def _write(
    folder: Path, encoder: Any, kind: type, records: Sequence[Any], num_proc: int | None
) -> None:
    """Encode into a folder beside it, then rename that."""
    began, part = time.monotonic(), folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    pieces = [records[start : start + PIECE] for start in range(0, len(records), PIECE)]
    several = num_proc if num_proc and num_proc > 1 and len(pieces) > 1 else None

    def rows(pieces: list[Sequence[Any]]) -> Iterator[dict[str, Any]]:
        for record in (record for piece in pieces for record in piece):
            for example in encoder(record):
                yield _row(example, kind)

    try:
        made = datasets.Dataset.from_generator(
            rows,
            features=Features({**_features(kind), **SIZES}),
            cache_dir=str(part),
            gen_kwargs={"pieces": pieces},
            num_proc=None if several is None else min(several, len(pieces)),
            fingerprint=folder.name,
        )
    except Exception as error:
        shutil.rmtree(part, ignore_errors=True)
        raise _reason(error) from error
    if not len(made):
        raise InputError("the training split has no examples")
    del made
    part.replace(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(
        f"encoded {len(records):,} records in {time.monotonic() - began:.0f} s: {folder} "
        f"({size / 2**20:.0f} MiB; ZOO_CACHE moves it)",
        file=sys.stderr,
    )


def _row(example: Any, kind: type) -> dict[str, Any]:
    weights = example.head_weights()
    row = {f.name: getattr(example, f.name) for f in fields(kind) if f.name != "record"}
    return row | {
        "_length": len(example),
        "_heads": list(weights),
        "_weights": list(weights.values()),
        "_group": getattr(example, "group", None),
    }


def _reason(error: BaseException) -> BaseException:
    """Return the encoder's own error, which `datasets` and processes wrap."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, InputError):
        inner = inner.__cause__
    if inner is not None:
        return inner
    traced = str(error.__cause__ or error)  # of another process: a traceback in words
    found = traced.rpartition(f"{InputError.__name__}: ")[2].strip()
    return InputError(found) if found != traced.strip() else error
