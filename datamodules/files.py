r"""Reading files so that every bad one is named: one line with the file, the line and the field.

A path may point into a zip archive (`tomi.zip/fb_all_test.txt`) and may be gzipped (`.gz`). Lines
end at "\n" only: some texts hold U+2028 or U+0085, where `str.splitlines` would cut. Every failure
is an `InputError`. Nothing here unpickles.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from datamodules.streams import not_utf8, open_bytes, raw_lines, visible_members
from zoo.errors import InputError, nearest

T = TypeVar("T")

SAMPLES = Path(__file__).parent / "samples"
"""Folder of the embedded samples, written for this project in each dataset's own format."""

_JSON_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield `(line number from 1, line without its end)`; empty lines are left out.

    Args:
        path: UTF-8 text, with or without a byte order mark; plain, `.gz`, or inside a `.zip`.

    Raises:
        InputError: Missing or empty file, invalid UTF-8, or a damaged archive.
    """
    found = False
    for number, line in raw_lines(path):
        found = True
        yield number, line
    if not found:
        raise InputError(f"{path}: the file is empty")


def read_text(path: Path) -> str:
    """Return the whole text of a file; see `read_lines` for what it may be."""
    with open_bytes(path) as stream:
        data = stream.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = error.start - (before.rfind(b"\n") + 1)
        raise not_utf8(path, before.count(b"\n") + 1, error, column) from error
    if not text.strip():
        raise InputError(f"{path}: the file is empty")
    return text


def field(record: Mapping[str, Any], name: str, kind: type[T], where: str) -> T:
    """Return `record[name]`, checked.

    Args:
        record: A JSON object.
        name: The field.
        kind: Its type; a boolean is not taken for an integer.
        where: File, line and part for the error, for example `train.txt:17: dialog[3]`.

    Raises:
        InputError: The field is missing or has another type.
    """
    if name not in record:
        hint = nearest(name, record) if record else "the object is empty"
        raise InputError(f"{where}: field {name!r} is missing; {hint}")
    value = record[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        found = _JSON_NAMES.get(type(value), type(value).__name__)
        expected = _JSON_NAMES.get(kind, kind.__name__)
        raise InputError(f"{where}: field {name!r} must be {expected}, found {found}")
    return value


def text_field(record: Mapping[str, Any], name: str, where: str) -> str:
    """Return a string field without surrounding blanks; empty is an error."""
    value = field(record, name, str, where).strip()
    if not value:
        raise InputError(f"{where}: field {name!r} is empty")
    return value


def as_object(value: Any, where: str) -> dict[str, Any]:
    """Return a value of a JSON file that must be an object."""
    if not isinstance(value, dict):
        found = _JSON_NAMES.get(type(value), type(value).__name__)
        raise InputError(f"{where}: expected an object, found {found}")
    return value


def objects(
    record: Mapping[str, Any], name: str, where: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(place for errors, object)` of each item of a field that is a list of objects."""
    joint = "." if where.endswith("]") else ": "
    for position, item in enumerate(field(record, name, list, where)):
        place = f"{where}{joint}{name}[{position}]"
        yield place, as_object(item, place)


def one_of(name: str, value: str, options: Iterable[str], where: str = "") -> str:
    """Return a value that is one of the options.

    Args:
        name: What it is, for the error: `condition`, or `field 'speaker'`.
        value: The value.
        options: The valid ones; an empty one is not listed.
        where: Place for the error, if it stands in a file.

    Raises:
        InputError: It is none of them; names the nearest one.
    """
    options = list(options)
    if value not in options:
        hint = nearest(value, filter(None, options))
        raise InputError(f"{where}{': ' if where else ''}{name} is {value!r}; {hint}")
    return value


def data_path(text: str) -> Path:
    """Return a path that a user wrote, with `~` and environment variables (`$DATA`) replaced.

    Raises:
        InputError: A variable is not set.
    """
    path = os.path.expandvars(os.path.expanduser(text))
    unset = re.search(r"\$(\w+|\{\w+\})", path)
    if unset and not Path(path).exists():
        raise InputError(f"{text}: the environment variable {unset[0]} is not set")
    return Path(path)


def find(folder: Path, *candidates: str) -> Path:
    """Return the first of the candidate files that exists in a folder or a zip archive.

    Args:
        folder: A folder, or a zip archive, in which members are found at any depth.
        candidates: File names, the preferred one first.

    Raises:
        InputError: None is there; the message lists what was looked for and what lies there. Or an
            archive has two of one name.
    """
    if not folder.exists():
        raise InputError(f"{folder}: no such file or folder")
    inside = sorted(folder.iterdir()) if folder.is_dir() else visible_members(folder)
    present = [folder / path for path in inside]
    for name in candidates:
        found = [path for path in present if path.name == name]
        if len(found) > 1:
            raise InputError(
                f"{found[1]}: a file of this name lies in {found[0].parent} too; keep one"
            )
        if found:
            return found[0]
    names = [path.name for path in present]
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    raise InputError(
        f"{folder}: none of {', '.join(candidates)} is there; it holds {listed or 'nothing'}"
    )


def first_few(names: Sequence[str], shown: int = 3, joint: str = ", ") -> str:
    """Return the first names and how many there are beside them: `a, b, c and 4 more`."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return joint.join(names[:shown]) + more


def shuffled(items: Sequence[T], seed: int) -> list[T]:
    """Return the items in an order that depends on the seed and their number only."""
    rng = random.Random(seed)  # random() is the one method stable over Python versions
    keys = [rng.random() for _ in items]
    return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]
