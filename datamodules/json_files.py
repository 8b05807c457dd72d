r"""Files of JSON objects: a list, or an object a line; the content says which.

Python's own parser takes more than it should. Here a key that is there twice, half a character (a
lone surrogate such as `\ud83d`, which no tokenizer and no file can hold), objects nested too deep
and integers too long are errors with file and line, like broken syntax.

An object's place is the number of the line where it starts, `7`. Where a list has several objects
on one line, the second and further ones have their place there too, `7[1]`, so no two are alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from datamodules.files import as_object, read_lines, read_text
from zoo.errors import InputError

T = TypeVar("T")

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_BLANK = re.compile(r"[ \t\r\n]*")


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(place, object)` of a file of JSON objects.

    It is one JSON list of objects if its first character is `[`, else it has one object a line.
    """
    for place, parse in unread_objects(path):
        yield place, parse()


def read_each(path: Path, read: Callable[[dict[str, Any], str, str], T]) -> Iterator[T]:
    """Yield what is read from each object of a file.

    Args:
        path: See `read_objects`.
        read: Takes an object, its place for errors (with the path) and its name (place with the
            file's name); raises `InputError` for a bad one.
    """
    for place, item in read_objects(path):
        yield read(item, f"{path}:{place}", f"{path.name}:{place}")


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds."""
    return parse_object(read_text(path), path)


def parse_object(text: str, path: Path | str, line: int = 1) -> dict[str, Any]:
    """Return the JSON object that a text holds; `line` is where the text begins in `path`."""
    plain = _plain_object(text)
    if plain is not None:
        return plain
    start = _after_blanks(text, 0)
    value, end = _decode(text, start, path, line + text.count("\n", 0, start))
    rest = _after_blanks(text, end)
    if rest < len(text):
        number = line + text.count("\n", 0, rest)
        raise InputError(f"{path}:{number}: invalid JSON: more text after the value")
    return as_object(value, f"{path}:{line}")


def _plain_object(text: str) -> dict[str, Any] | None:
    """Return the object of a text that is nothing else and has no escaped characters, else None.

    It has nothing that could be wrong: what gives None is looked at closely.
    """
    if "\\u" in text:
        return None
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, KeyError, RecursionError):
        return None
    return value if end == len(text) and isinstance(value, dict) else None


def check_text(value: Any, where: str) -> None:
    """Raise for half a character in a string of a value, at any depth.

    Raises:
        InputError: There is one; names the field.
    """
    for place, text in _strings(value, ""):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(text[error.start]):04x}"
            raise InputError(
                f"{where}: field {place!r} holds {half}, half a character (a lone surrogate)"
            ) from error


def unread_objects(path: Path) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield `(place, function that returns the object or raises)`."""
    as_lines = False
    for number, line in read_lines(path):
        if not as_lines and line.lstrip().startswith("["):
            yield from _listed(path)
            return
        as_lines = True
        yield str(number), partial(parse_object, line, path, number)


def _listed(path: Path) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the same of a JSON list."""
    text = read_text(path)
    position = _after_blanks(text, text.index("[") + 1)
    number = 1 + text.count("\n", 0, position)
    line, on_line = 0, 0  # of the object before
    while text[position : position + 1] != "]":
        value, end = _decode(text, position, path, number)
        line, on_line = number, on_line + 1 if line == number else 0
        place = f"{number}[{on_line}]" if on_line else f"{number}"
        yield place, partial(as_object, value, f"{path}:{place}")
        end = _after_blanks(text, end)
        if text[end : end + 1] == ",":
            end = _after_blanks(text, end + 1)
        elif text[end : end + 1] != "]":
            number += text.count("\n", position, end)
            raise InputError(f"{path}:{number}: invalid JSON: the list is not closed with ']'")
        number += text.count("\n", position, end)
        position = end
    rest = _after_blanks(text, position + 1)
    if rest < len(text):
        number += text.count("\n", position, rest)
        raise InputError(f"{path}:{number}: invalid JSON: the list ends, but the file does not")


def _decode(text: str, position: int, path: Path | str, line: int) -> tuple[Any, int]:
    """Return `(value, where it ends)` of the JSON value at a position, which is in this line."""
    try:
        value, end = _DECODER.raw_decode(text, position)
        if _SURROGATE.search(text, position, end):  # half of a pair, or a pair
            check_text(value, f"{path}:{line}")
    except json.JSONDecodeError as error:
        number = line + text.count("\n", position, error.pos)
        raise InputError(
            f"{path}:{number}: invalid JSON: {error.msg} (column {error.colno})"
        ) from error
    except RecursionError as error:
        raise InputError(f"{path}:{line}: invalid JSON: nested too deep") from error
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{path}:{line}: field {error.args[0]!r} is there twice") from error
    except ValueError as error:
        raise InputError(f"{path}:{line}: invalid JSON: an integer has too many digits") from error
    return value, end


def _strings(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield `(field, string)` of every string and key in a value."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, item in value.items():
            inside = f"{place}.{key}" if place else str(key)
            yield inside.encode(errors="replace").decode(), str(key)
            yield from _strings(item, inside)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(item, f"{place}[{index}]")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object whose keys are all there once; the last one does not win."""
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise KeyError(twice)
    return value


def _after_blanks(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match else position


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
