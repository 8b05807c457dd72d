"""Rows of the files that people have: JSON lines, one JSON list, CSV or Parquet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from datamodules.files import first_few
from datamodules.json_files import unread_objects
from datamodules.streams import open_bytes
from datamodules.tables import unread_csv
from zoo.errors import InputError, SaidOnce

log = logging.getLogger(__name__)
log.addFilter(SaidOnce())  # a file may be read for two splits

T = TypeVar("T")

OnBad = Literal["error", "skip"]
PARQUET_ROWS = 1000  # that are held as Python objects at a time


def read_rows(
    path: Path, read: Callable[[dict[str, Any], str, str], T], on_bad: OnBad = "error"
) -> Iterator[T]:
    """Yield what is read from each row of a file, reading no further than is asked for.

    Args:
        path: A `.csv` file with a header line, a `.parquet` file, else JSON: a list of objects, or
            an object a line.
        read: Takes a row, its place for errors (path and line, or number of the row in Parquet) and
            its name (the same with the file's name); raises `InputError` for a bad one.
        on_bad: `skip` leaves bad rows out, and says at the end how many and what is wrong with the
            first three. A file that breaks off (no UTF-8, a list that is not closed) is an error.

    Raises:
        InputError: A row is bad, or with `skip` all are.
    """
    found = 0
    bad: list[str] = []
    for place, parse in unread_rows(path):
        try:
            item = read(parse(), f"{path}:{place}", f"{path.name}:{place}")
        except InputError as error:
            if on_bad == "error":
                hint = "; data.on_bad: skip leaves such rows out" if found else ""
                raise InputError(f"{error}{hint}") from error
            bad.append(str(error))
            continue
        found += 1
        yield item
    if bad and not found:
        raise InputError(f"{path}: all {len(bad)} rows are bad: {first_few(bad, 1)}")
    if bad:
        rows = len(bad) + found
        what = first_few(bad, joint="; ")
        log.warning("%s: %d of %d rows are bad and left out: %s", path, len(bad), rows, what)


def unread_rows(path: Path) -> Iterator[tuple[int | str, Callable[[], dict[str, Any]]]]:
    """Yield `(place, function that reads the row)` of a file, which is not read ahead."""
    kinds: dict[str, Callable[[Path], Iterator[tuple[int | str, Callable[[], dict[str, Any]]]]]]
    kinds = {".csv": unread_csv, ".parquet": _unread_parquet}
    return kinds.get(Path(path.name.removesuffix(".gz")).suffix.lower(), unread_objects)(path)


def _unread_parquet(path: Path) -> Iterator[tuple[int, Callable[[], dict[str, Any]]]]:
    """Yield `(number of the row from 1, function that returns it)`.

    Raises:
        InputError: It is no Parquet file, or a text in it is not UTF-8.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with open_bytes(path) as stream:
            for batch in ParquetFile(stream).iter_batches(PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, partial(dict, row)
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: invalid Parquet: {str(error).splitlines()[0]}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: a text after row {number}") from error
