"""Encoding records into an Arrow file, a piece at a time, by one process or several."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa
from tqdm import tqdm

from zoo.errors import InputError, TooLongError

log = logging.getLogger(__name__)

PIECE = 500  # records that a process encodes before it takes more
AHEAD = 2  # pieces that are read for each process while it encodes
SCALARS = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}
SIZES = {
    "_length": pa.int64(),
    "_heads": pa.list_(pa.int64()),
    "_weights": pa.list_(pa.float64()),
    "_group": pa.string(),
}
COUNTS = "counts.json"


@dataclass
class Counts:
    """What is told of records that were encoded; see `StoredExamples`."""

    records: int = 0
    dropped: list[str] = field(default_factory=list)
    shortened: int = 0

    def add(self, more: Counts) -> None:
        """Count some more records."""
        self.records += more.records
        self.dropped += more.dropped
        self.shortened += more.shortened


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
        return pa.schema([*stored_fields(self.kind).items(), *SIZES.items()])

    def __call__(self, records: Sequence[Any]) -> tuple[pa.RecordBatch, Counts]:
        """Return the examples of some records, and what to count of them."""
        schema, fields_kept, left_out = self.schema, list(stored_fields(self.kind)), list[str]()
        before = shortened_by(self.encoder)
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
        counts = Counts(len(records), left_out, shortened_by(self.encoder) - before)
        return pa.RecordBatch.from_pydict(columns, schema=schema), counts

    def _check(self, given: type) -> None:
        """Refuse examples of a type that may have more fields than are stored."""
        if given is not self.kind:
            raise InputError(
                f"{type(self.encoder).__name__}: __call__ says that it gives {self.kind.__name__}, "
                f"but gives {given.__name__}; correct what it says, or set data.keep_in_memory to "
                f"true"
            )


def shortened_by(encoder: Any) -> int:
    """Return how many prompts an encoder has shortened so far; 0 of one that does not count."""
    count: int = getattr(encoder, "shortened", 0)
    return count


def stored_fields(kind: type) -> dict[str, pa.DataType]:
    """Return the fields of an example with their Arrow types; KeyError where there is none."""
    hints = get_type_hints(kind)
    return {f.name: _column(hints[f.name]) for f in fields(kind) if f.name != "record"}


def _column(hint: Any) -> pa.DataType:
    """Return the Arrow type of a field; raises KeyError where there is none."""
    if get_origin(hint) in (list, tuple):
        inner = get_args(hint)[0]
        return pa.list_(pa.int32() if inner is int else _column(inner))  # token ids are small
    return SCALARS[hint]


_of_process: Encode | None = None  # in a process that encodes


def write(folder: Path, encode: Encode, records: Iterable[Any], num_proc: int | None) -> None:
    """Encode records into a folder beside `folder`, then rename that.

    Raises:
        InputError: A record cannot be read or encoded; then nothing is left.
    """
    began, part = time.monotonic(), folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    counts = Counts()
    try:
        with (
            tqdm(desc="encoding", unit=" records", mininterval=1) as bar,
            pa.OSFile(str(part / "examples.arrow"), "wb") as file,
            pa.ipc.new_stream(file, encode.schema) as writer,
        ):
            for batch, more in _each(encode, _pieces(records), part, num_proc or 1):
                writer.write_batch(batch)
                counts.add(more)
                bar.update(more.records)
        (part / COUNTS).write_text(json.dumps(asdict(counts)))
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    part.replace(folder)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    seconds = time.monotonic() - began
    said = f"encoded {counts.records:,} records in {seconds:.0f} s: {folder} ({size:.0f} MiB)"
    log.warning("%s; ZOO_CACHE moves it", said)


def _pieces(records: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield the records in lists; what is read ahead of them is not kept."""
    unread = iter(records)
    while piece := list(islice(unread, PIECE)):
        yield piece


def _each(
    encode: Encode, pieces: Iterator[list[Any]], part: Path, processes: int
) -> Iterator[tuple[pa.RecordBatch, Counts]]:
    """Yield what becomes of each piece, in order.

    Processes hand over their examples in files, which costs less than a pipe.
    """
    if processes == 1:
        yield from map(encode, pieces)
        return
    with ProcessPoolExecutor(processes, initializer=_start, initargs=(encode,)) as pool:
        files = ((part / f"{i}.piece", piece) for i, piece in enumerate(pieces))
        given: deque[tuple[Path, Future[Counts]]] = deque()

        def give(most: int) -> None:
            for file, piece in islice(files, most):
                given.append((file, pool.submit(_encode, piece, file)))

        give(AHEAD * processes)
        while given:
            file, done = given.popleft()
            counts = done.result()
            give(1)
            with pa.memory_map(str(file)) as stream:
                yield pa.ipc.open_stream(stream).read_next_batch(), counts
            file.unlink()


def _start(encode: Encode) -> None:
    """Give a process what it encodes with, once: a tokenizer is large."""
    global _of_process
    _of_process = encode


def _encode(records: Sequence[Any], file: Path) -> Counts:
    """Write the examples of some records; return what to count of them."""
    assert _of_process is not None
    batch, counts = _of_process(records)
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch)
    return counts
