"""The files of an index of values: names, tables, hashes, and what a folder may hold."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import networkx as nx
import pyarrow
import pyarrow.parquet
from safetensors import SafetensorError

from zoo.errors import InputError, nearest

CARD, ANSWERS = "index.json", "answers.jsonl"
GRAPH, VECTORS = "graph.graphml", "vectors.safetensors"
TABLES = ("principles.parquet", "communities.parquet", "reports.parquet")
FORMAT = 4  # rises when the same inputs give another index
AGAIN = "build the index again in a new folder"
DAMAGE = (
    *(AttributeError, LookupError, TypeError, ValueError, ParseError),
    *(nx.NetworkXException, pyarrow.ArrowException, SafetensorError),
)
"""What reading a damaged file raises."""

CARD_FIELDS = {"inputs": str, "settings": dict, "counts": dict, "files": dict}


def as_plain(item: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, tuples as lists."""
    row = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in row.items()}


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as a Parquet table."""
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


def read_rows(path: Path, kind: type) -> list[dict[str, Any]]:
    """Return the rows of a Parquet table, lists as tuples.

    Args:
        path: The table.
        kind: Dataclass whose fields have to be columns.

    Raises:
        InputError: A column is missing.
    """
    rows = pyarrow.parquet.read_table(path).to_pylist()
    for name in [field.name for field in dataclasses.fields(kind)] if rows else ():
        if name not in rows[0]:
            raise InputError(f"{path}: column {name!r} is missing; {nearest(name, rows[0])}")
    return [{name: tuple(v) if isinstance(v, list) else v for name, v in r.items()} for r in rows]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file where what is read of it is damaged.

    Raises:
        InputError: The file holds something else than what was built.
    """
    try:
        yield
    except InputError:
        raise
    except DAMAGE as error:
        said = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: not a file of an index of values ({said}); {AGAIN}") from error


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_files(target: Path, known: Mapping[str, str]) -> None:
    """Refuse an index of which a file is missing or changed.

    Raises:
        InputError: Names the file.
    """
    for name, built in known.items():
        path = target / name
        if not path.is_file():
            raise InputError(f"{path}: missing; {AGAIN}")
        if file_hash(path) != built:
            raise InputError(f"{path}: not the file that was built; build the index again")


def check_empty(target: Path) -> None:
    """Refuse a folder that holds other files than those of an unfinished index.

    Raises:
        InputError: Names the folder.
    """
    own = {GRAPH, VECTORS, ANSWERS, *TABLES}
    names = [path.name for path in target.iterdir()] if target.is_dir() else []
    if target.is_file() or [n for n in names if n not in own and not n.endswith(".part")]:
        raise InputError(f"{target}: holds no {CARD} but other files; name a new folder")


def read_card(target: Path) -> dict[str, Any]:
    """Return what `index.json` says.

    Raises:
        InputError: It is missing, damaged or of another version.
    """
    path = target / CARD
    if not path.is_file():
        raise InputError(f"{path}: missing; {target} is no index of values, or an unfinished one")
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known, _ = card["format"], [card[name] for name in CARD_FIELDS]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the card of an index of values ({error})") from error
    if known != FORMAT:
        raise InputError(f"{path}: format {known}, and this version reads {FORMAT}; build it again")
    for name, kind in CARD_FIELDS.items():
        if not isinstance(card[name], kind):
            raise InputError(f"{path}: field {name!r} is damaged: {card[name]!r:.40}; {AGAIN}")
    for name in (GRAPH, *TABLES):
        if name not in card["files"]:
            raise InputError(f"{path}: field 'files' does not name {name!r}; {AGAIN}")
    if "encoder" not in card["settings"]:
        raise InputError(f"{path}: field 'settings' does not name 'encoder'; {AGAIN}")
    return card
