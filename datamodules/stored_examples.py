"""Encoded training examples on disk: written once per machine, memory-mapped by every process.

The examples of a split are a folder with an Arrow file in `$ZOO_CACHE/examples`, named by what they
depend on (`datamodules.fingerprint`). It appears whole or not at all: a process that is killed
while it encodes leaves a folder `.part`, which the next one replaces. Processes that want the same
examples wait for the one that writes them.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from datamodules.sizes import Sizes
from zoo.cache import alone, root
from zoo.errors import InputError, TooLongError

log = logging.getLogger(__name__)

PIECE = 1000  # records that a process encodes before it takes more
SCALARS = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}
SIZES = {
    "_length": pa.int64(),
    "_heads": pa.list_(pa.int64()),
    "_weights": pa.list_(pa.float64()),
    "_group": pa.string(),
}
COUNTS = "counts.json"


class StoredExamples(Sequence[Any]):
    """Examples of a folder; each is made anew when it is asked for, without its record.

    Attributes:
        folder: Where they are.
        sizes: Their lengths, weights and groups.
        records: Number of records that they were made from.
        dropped: Names of those of them that were left out.
    """

    def __init__(self, folder: Path, kind: type) -> None:
        table = datasets.Dataset.from_file(str(folder / "examples.arrow"))
        self.folder, self.kind = folder, kind
        told = json.loads((folder / COUNTS).read_text())
        self.records: int = told["records"]
        self.dropped: list[str] = told["dropped"]
        self._rows = table.remove_columns(list(SIZES))
        hints = get_type_hints(kind)
        names = self._rows.column_names
        self._tuples = [name for name in names if get_origin(hints[name]) is tuple]
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


@dataclass(frozen=True)
class Encode:
    """Encodes a piece of the records; a process gets it whole.

    Attributes:
        encoder: The method's encoder.
        kind: The type of its examples.
        leave_out: Gives the name of a record that is too long, or raises.
    """

    encoder: Any
    kind: type
    leave_out: Callable[[Any, TooLongError], str]

    @property
    def schema(self) -> pa.Schema:
        """Return the columns: the fields of an example, and its sizes."""
        return pa.schema([*_columns(self.kind).items(), *SIZES.items()])

    def __call__(self, records: Sequence[Any]) -> tuple[pa.RecordBatch, list[str]]:
        """Return the examples of some records, and the names of those that were left out."""
        schema, fields_kept, left_out = self.schema, list(_columns(self.kind)), []
        columns: dict[str, list[Any]] = {name: [] for name in schema.names}
        for record in records:
            try:
                examples: list[Any] = self.encoder(record)
            except TooLongError as error:
                left_out.append(self.leave_out(record, error))
                continue
            for example in examples:
                self._check(type(example))
                for name in fields_kept:
                    columns[name].append(getattr(example, name))
                weights = example.head_weights()
                sizes = (len(example), list(weights), list(weights.values()))
                for name, size in zip(
                    SIZES, (*sizes, getattr(example, "group", None)), strict=True
                ):
                    columns[name].append(size)
        return pa.RecordBatch.from_pydict(columns, schema=schema), left_out

    def _check(self, given: type) -> None:
        """Refuse examples of a type that may have more fields than are stored."""
        if given is not self.kind:
            raise InputError(
                f"{type(self.encoder).__name__}: __call__ says that it gives {self.kind.__name__}, "
                f"but gives {given.__name__}; correct what it says, or set data.keep_in_memory to "
                f"true"
            )


_of_process: Encode | None = None  # in a process that encodes


def stored(
    name: str,
    encoder: Any,
    records: Callable[[], Sequence[Any]],
    leave_out: Callable[[Any, TooLongError], str],
    num_proc: int | None,
) -> StoredExamples:
    """Open the examples of this name; encode them first if no process has.

    Args:
        name: What they depend on, see `datamodules.fingerprint`.
        encoder: The method's encoder, one that `storable` gave a type for.
        records: Reads the records; called only to encode.
        leave_out: Gives the name of a record that is too long, or raises.
        num_proc: Processes that encode; None for this one alone.

    Raises:
        InputError: The encoder refuses a record.
    """
    kind = storable(encoder)
    assert kind is not None
    folder = root() / "examples" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        with alone(folder.with_suffix(".lock")):
            if not folder.is_dir():  # no other process was first
                _write(folder, Encode(encoder, kind, leave_out), records(), num_proc)
    return StoredExamples(folder, kind)


def is_stored(name: str) -> bool:
    """Return whether examples of this name have been encoded."""
    return (root() / "examples" / name).is_dir()


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
        _columns(kinds[0])
    except (NameError, TypeError, IndexError, KeyError):  # no types, or not of this form
        return None
    record = hints.get("record", Any)
    return kinds[0] if record is Any or NoneType in get_args(record) else None


def _columns(kind: type) -> dict[str, pa.DataType]:
    hints = get_type_hints(kind)
    return {f.name: _column(hints[f.name]) for f in fields(kind) if f.name != "record"}


def _column(hint: Any) -> pa.DataType:
    """Return the Arrow type of a field; raises KeyError where there is none."""
    if get_origin(hint) in (list, tuple):
        inner = get_args(hint)[0]
        return pa.list_(pa.int32() if inner is int else _column(inner))  # token ids are small
    return SCALARS[hint]


def _write(folder: Path, encode: Encode, records: Sequence[Any], num_proc: int | None) -> None:
    """Encode into a folder beside it, then rename that."""
    began, part = time.monotonic(), folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    pieces = [records[start : start + PIECE] for start in range(0, len(records), PIECE)]
    left_out: list[str] = []
    try:
        with (
            tqdm(total=len(records), desc="encoding", unit=" records", mininterval=1) as bar,
            pa.OSFile(str(part / "examples.arrow"), "wb") as file,
            pa.ipc.new_stream(file, encode.schema) as writer,
        ):
            for piece, (batch, dropped) in zip(
                pieces, _each(encode, pieces, num_proc), strict=True
            ):
                writer.write_batch(batch)
                left_out += dropped
                bar.update(len(piece))
        counts = {"records": len(records), "dropped": left_out}
        (part / COUNTS).write_text(json.dumps(counts))
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    part.replace(folder)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    seconds = time.monotonic() - began
    said = f"encoded {len(records):,} records in {seconds:.0f} s: {folder} ({size:.0f} MiB)"
    log.warning("%s; ZOO_CACHE moves it", said)


def _each(
    encode: Encode, pieces: Sequence[Sequence[Any]], num_proc: int | None
) -> Iterator[tuple[pa.RecordBatch, list[str]]]:
    """Yield what becomes of each piece, in order."""
    if not num_proc or num_proc == 1 or len(pieces) == 1:
        yield from map(encode, pieces)
        return
    count = min(num_proc, len(pieces))
    with ProcessPoolExecutor(count, initializer=_start, initargs=(encode,)) as processes:
        yield from processes.map(_encode, pieces)


def _start(encode: Encode) -> None:
    """Give a process what it encodes with, once: a tokenizer is large."""
    global _of_process
    _of_process = encode


def _encode(records: Sequence[Any]) -> tuple[pa.RecordBatch, list[str]]:
    assert _of_process is not None
    return _of_process(records)
