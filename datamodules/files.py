r"""Reading files so that every bad one is named: one line with the file, the line and the field.

A path may point into a zip archive (`tomi.zip/fb_all_test.txt`) and may be gzipped (`.gz`). Lines
end at "\n" only: some texts hold U+2028 or U+0085, where `str.splitlines` would cut. Every failure
is an `InputError`. Nothing here unpickles.
"""

from __future__ import annotations

import gzip
import json
import random
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, cast

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
    for number, line in _raw_lines(path):
        found = True
        yield number, line
    if not found:
        raise InputError(f"{path}: the file is empty")


def read_text(path: Path) -> str:
    """Return the whole text of a file; see `read_lines` for what it may be."""
    with _open(path) as stream:
        data = stream.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = error.start - (before.rfind(b"\n") + 1)
        raise _not_utf8(path, before.count(b"\n") + 1, error, column) from error
    if not text.strip():
        raise InputError(f"{path}: the file is empty")
    return text


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield `(line number, object)` of a file with one JSON object a line."""
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{where}: invalid JSON: {error.msg} (column {error.colno})"
            ) from error
        yield number, _object(value, where)


def read_json_list(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield `(line number where it starts, object)` of a file that is one JSON list of objects."""
    text = read_text(path)
    decoder = json.JSONDecoder()
    position = _skip(text, 0)
    if text[position] != "[":
        raise InputError(f"{path}:1: expected a JSON list, found {text[position]!r}")
    position = _skip(text, position + 1)
    while text[position : position + 1] != "]":
        number = text.count("\n", 0, position) + 1
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}:{error.lineno}: invalid JSON: {error.msg} (column {error.colno})"
            ) from error
        yield number, _object(value, f"{path}:{number}")
        position = _skip(text, position)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        elif text[position : position + 1] != "]":
            number = text.count("\n", 0, position) + 1
            raise InputError(f"{path}:{number}: invalid JSON: the list is not closed with ']'")


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


def find(folder: Path, *candidates: str) -> Path:
    """Return the first of the candidate files that exists in a folder or a zip archive.

    Args:
        folder: A folder, or a zip archive, in which members are found at any depth.
        candidates: File names, the preferred one first.

    Raises:
        InputError: None is there; the message lists what was looked for and what lies there.
    """
    if not folder.exists():
        raise InputError(f"{folder}: no such file or folder")
    if folder.is_dir():
        present = {entry.name: entry for entry in sorted(folder.iterdir())}
    else:
        with _archive(folder) as archive:
            members = [name for name in sorted(archive.namelist()) if not name.endswith("/")]
        present = {Path(name).name: folder / name for name in members}
    for name in candidates:
        if name in present:
            return present[name]
    names = list(present)
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    raise InputError(
        f"{folder}: none of {', '.join(candidates)} is there; it holds {listed or 'nothing'}"
    )


def shuffled(items: Sequence[T], seed: int) -> list[T]:
    """Return the items in an order that depends on the seed and their number only."""
    rng = random.Random(seed)  # random() is the one method stable over Python versions
    keys = [rng.random() for _ in items]
    return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]


def _raw_lines(path: Path) -> Iterator[tuple[int, str]]:
    with _open(path) as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, number, error, error.start) from error
            line = line.removesuffix("\n").removesuffix("\r")
            if line.strip():
                yield number, line


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, through gzip or zip where its path says so."""
    archive_path = next((parent for parent in path.parents if parent.suffix == ".zip"), None)
    try:
        if archive_path is not None and archive_path.is_file():
            member = path.relative_to(archive_path).as_posix()
            with _archive(archive_path) as archive:
                if member not in archive.namelist():
                    raise InputError(f"{path}: {archive_path.name} has no member {member}")
                with archive.open(member) as stream:
                    yield stream
        elif path.suffix == ".gz":
            with gzip.open(path, "rb") as stream:
                yield cast(IO[bytes], stream)
        else:
            with path.open("rb") as stream:
                yield stream
    except EOFError as error:
        raise InputError(f"{path}: truncated: the file ends before its gzip data does") from error
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged archive: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, expected a file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: not a folder and not a zip archive") from error
    with archive:
        yield archive


def _not_utf8(path: Path, number: int, error: UnicodeDecodeError, column: int) -> InputError:
    byte = error.object[error.start]
    return InputError(f"{path}:{number}: not UTF-8: byte 0x{byte:02x} at byte {column + 1}")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        found = _JSON_NAMES.get(type(value), type(value).__name__)
        raise InputError(f"{where}: expected a JSON object, found {found}")
    return value


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
