"""Encoded training examples on disk: written once per machine, memory-mapped by every process.

The examples of a split are a folder with an Arrow file in `$ZOO_CACHE/examples`, named by what they
depend on (`datamodules.fingerprint`). It appears whole or not at all: a process that is killed
while it encodes leaves a folder `.part`, which the next one replaces. Processes that want the same
examples wait for the one that writes them.

What was read of the file counts as memory of the process, with much around it that the system maps
at once. The process gives these pages back from time to time; they stay in the system's cache.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.encode_pieces import COUNTS, SIZES, Encode, stored_fields, write
from datamodules.sizes import Sizes
from zoo.cache import alone, root
from zoo.errors import TooLongError

FORGET = 256  # examples after which the pages that were read are given back


class StoredExamples(Sequence[Any]):
    """Examples of a folder; each is made anew when it is asked for, without its record.

    Attributes:
        folder: Where they are.
        sizes: Their lengths, weights and groups.
        records: Number of records that they were made from.
        dropped: Names of those of them that were left out.
        shortened: Number of prompts that lack a part of their text, for want of room.
    """

    def __init__(self, folder: Path, kind: type) -> None:
        with (folder / "examples.arrow").open("rb") as stream:
            self._file = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        arrow = pa.ipc.open_stream(pa.py_buffer(self._file)).read_all()  # nothing is copied
        table = datasets.Dataset(arrow, fingerprint=folder.name)  # or all of it is read for one
        self.folder, self.kind, self._asked = folder, kind, 0
        told = json.loads((folder / COUNTS).read_text())
        self.records: int = told["records"]
        self.dropped: list[str] = told["dropped"]
        self.shortened: int = told["shortened"]
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
        self._asked += 1
        if self._asked % FORGET == 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._file.madvise(mmap.MADV_DONTNEED)
        return self.kind(**(row | tuples | self._absent))

    def __reduce__(self) -> tuple[type, tuple[Path, type]]:
        """Hand over the place alone: another process maps the file itself."""
        return type(self), (self.folder, self.kind)


def stored(
    name: str,
    encoder: Any,
    records: Callable[[], Iterable[Any]],
    leave_out: Callable[[Any, TooLongError], str],
    num_proc: int | None,
) -> StoredExamples:
    """Open the examples of this name; encode them first if no process has.

    Args:
        name: What they depend on, see `datamodules.fingerprint`.
        encoder: The method's encoder, one that `storable` gave a type for.
        records: Reads the records; called only to encode, a piece at a time.
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
                write(folder, Encode(encoder, kind, leave_out), records(), num_proc)
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
        stored_fields(kinds[0])
    except (NameError, TypeError, IndexError, KeyError):  # no types, or not of this form
        return None
    record = hints.get("record", Any)
    return kinds[0] if record is Any or NoneType in get_args(record) else None
