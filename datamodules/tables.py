"""CSV tables, lists of files, and splits by a hash."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from datamodules.files import field, read_text
from datamodules.streams import hidden, open_bytes, visible_members
from zoo.errors import InputError, nearest

T = TypeVar("T")

SHARES = {"train": 80, "val": 10, "test": 10}
"""Percent of each split where a dataset has no splits of its own."""

SAMPLE_SHARES = {"train": 60, "val": 20, "test": 20}
"""Percent of each split of a small embedded sample, and of a few hundred queries."""

FEW = 20
"""Up to so many valid names, an error lists them all."""


def read_csv(path: Path, *needed: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield `(line number where it starts, row by column)` of a comma separated file.

    Cells may be quoted and hold line ends.

    Args:
        path: The file, with a header line.
        *needed: Columns that must be there.

    Raises:
        InputError: A column is missing, a row is too short or too long, or a quote stays open.
    """
    for number, read in unread_csv(path, *needed):
        yield number, read()


def unread_csv(path: Path, *needed: str) -> Iterator[tuple[int, Callable[[], dict[str, str]]]]:
    """Yield `(line number, function that returns the row or raises)`; see `read_csv`."""
    rows = read_cells(path)
    number, header = next(rows, (1, []))
    if not header:
        raise InputError(f"{path}: the file has no header line")
    header = [name.strip() for name in header]
    for name in needed:
        if name not in header:
            hint = nearest(name, header)
            raise InputError(f"{path}:{number}: column {name!r} is missing; {hint}")
    twice = [name for i, name in enumerate(header) if name in header[:i]]
    if twice:
        raise InputError(f"{path}:{number}: column {twice[0]!r} is there twice")
    for number, cells in rows:
        yield number, partial(_row, header, cells, f"{path}:{number}")


def _row(header: Sequence[str], cells: Sequence[str], where: str) -> dict[str, str]:
    if len(cells) != len(header):
        raise InputError(f"{where}: {len(cells)} cells, expected {len(header)}")
    return dict(zip(header, cells, strict=True))


def read_cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield `(line number where it starts, cells)` of a comma separated file; no empty lines."""
    number, found = 1, False
    with open_bytes(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        reader = csv.reader(text, strict=True)
        try:
            for cells in reader:
                found = found or len(cells) > 1 or any(map(str.strip, cells))  # not blanks alone
                if any(map(str.strip, cells)):
                    yield number, cells
                number = reader.line_num + 1
        except csv.Error as error:
            raise InputError(f"{path}:{number}: invalid CSV: {error}") from error
        except UnicodeDecodeError:
            read_text(path)  # names the line
            raise
    if not found:
        raise InputError(f"{path}: the file is empty")


def cell(row: dict[str, str], name: str, where: str) -> str:
    """Return a cell without surrounding blanks; empty is an error."""
    value = row[name].strip()
    if not value:
        raise InputError(f"{where}: column {name!r} is empty")
    return value


def unquoted(text: str) -> str:
    """Return a cell without CSV quotes: around it, and doubled inside.

    Example:
        >>> unquoted('"He said ""no"" twice"')
        'He said "no" twice'
    """
    inner = text[1:-1]
    quoted = len(text) > 1 and text[0] == text[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else text


def only(item: Iterable[str], names: Collection[str], where: str, what: str = "field") -> None:
    """Raise unless a JSON object has none but these fields, or a table none but these columns.

    Raises:
        InputError: It has another one; says which names there are.
    """
    for name in item:
        if name not in names:
            raise InputError(f"{where}: unknown {what} {name!r}; {nearest(name, names)}")


def text_list(item: Mapping[str, Any], name: str, where: str) -> list[str]:
    """Return a field that lists strings, without surrounding blanks.

    Raises:
        InputError: It is missing or no list, the list is empty, or a string in it is.
    """
    texts = field(item, name, list, where)
    if not texts:
        raise InputError(f"{where}: field {name!r} is empty")
    for position, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}: {name}[{position}] must be a string that is not empty")
    return [text.strip() for text in texts]


def right_option(letter: str, letters: Sequence[str], where: str) -> int:
    """Return the position of the right option's letter.

    Args:
        letter: That letter.
        letters: Of all options.
        where: File, line and field for the error.

    Raises:
        InputError: No option has it.
    """
    if letter not in letters:
        raise InputError(f"{where} is {letter!r}; {nearest(letter, letters)}")
    return letters.index(letter)


def members(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a folder or zip archive, at any depth, whose names end in a suffix.

    Hidden files and folders (`.ipynb_checkpoints`, `__MACOSX`) are passed over.

    Raises:
        InputError: There is no such folder or archive, no such file, or two of one name.
    """
    if not folder.exists():
        raise InputError(f"{folder}: no such file or folder")
    if folder.is_dir():
        inside = [path.relative_to(folder) for path in folder.rglob(f"*{suffix}") if path.is_file()]
    else:
        inside = [Path(name) for name in visible_members(folder) if name.endswith(suffix)]
    files = sorted(folder / path for path in inside if not hidden(path))
    if not files:
        raise InputError(f"{folder}: no file ends in {suffix}")
    for before, path in pairwise(sorted(files, key=lambda path: (path.name, path))):
        if suffix and before.name == path.name:
            raise InputError(f"{path}: a file of this name lies in {before.parent} too; keep one")
    return files


def present(folder: Path, *candidates: str) -> bool:
    """Say whether a folder or zip archive holds one of the files."""
    if not folder.is_dir():
        return any(path.name in candidates for path in members(folder, ""))
    return any((folder / name).is_file() for name in candidates)


def divide(
    items: Sequence[T], key: Callable[[T], str], split: str, shares: dict[str, int], where: str
) -> list[T]:
    """Return a split's share of the items, which depends on their texts only.

    The distinct keys are ordered by their hash and cut, so items with one key share a split. Inside
    a split the order of the items stays.

    Args:
        items: All items.
        key: Text of an item to hash.
        split: The split wanted.
        shares: Percent of each split; the first one also takes what rounding leaves.
        where: File for the error.

    Raises:
        InputError: There are too few items to give every split one.
    """
    keys = sorted({key(item) for item in items}, key=digest)
    sizes = {name: len(keys) * percent // 100 for name, percent in shares.items()}
    first = next(iter(sizes))
    if 0 in sizes.values():
        parts = " / ".join(map(str, shares.values()))
        raise InputError(f"{where}: {len(keys)} are too few to split {parts} percent")
    sizes[first] = len(keys) - sum(size for name, size in sizes.items() if name != first)
    start = 0
    for name, size in sizes.items():
        if name == split:
            mine = set(keys[start : start + size])
            return [item for item in items if key(item) in mine]
        start += size
    raise InputError(f"{where}: no share for the split {split!r}; {nearest(split, shares)}")


def digest(text: str) -> bytes:
    """Return a hash of a text that stays the same between runs and machines."""
    return hashlib.sha256(text.encode()).digest()


def hint(name: str, options: Collection[str]) -> str:
    """Return `nearest`, with the list of all names left out where it would be long."""
    text = nearest(name, options)
    if len(options) <= FEW:
        return text
    close = text.split(" (one of:")[0] if text.startswith("did you mean") else "none is close"
    return f"{close} ({len(options)} names are known)"
