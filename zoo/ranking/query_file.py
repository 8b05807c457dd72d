"""What an index is built of and asked: a data module's documents, a file of queries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.records import Corpus

HEADERS = ("id", "_id", "qid", "query-id", "query_id")  # of a column of ids


def questions(
    datamodule: Any, query: str | None, queries: str | None
) -> tuple[list[tuple[str, str]], dict[str, tuple[str, ...]]]:
    """Return id and text of what is asked, and the documents that do not count, by id.

    Args:
        datamodule: The data; its test queries are asked if no others are given.
        query: One query.
        queries: A file of them.

    Raises:
        InputError: See `read_queries`.
    """
    asked = [("query", query)] if query else []
    if queries is not None:
        asked += read_queries(Path(queries))
    if asked:
        return asked, {}
    records = datamodule.records("test")
    excluded = {record.id: getattr(record, "excluded", ()) for record in records}
    return [(record.id, record.query) for record in records], excluded


def read_queries(path: Path) -> list[tuple[str, str]]:
    """Return id and text of each line: JSON objects, or id and text between tabs in a `.tsv` file.

    An object has `id` or `_id` (a string or an integer; without one the line's number is the id)
    and `text`. A first line of a `.tsv` file whose id is a column's name is left out.

    Raises:
        InputError: The file cannot be read, a line has another form, or an id is there twice.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"queries: cannot read {path} ({error})") from error
    read = _tabbed if path.suffix == ".tsv" else _object
    queries: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, text = read(line, number, f"{path}:{number}")
        if not queries and read is _tabbed and name.lower() in HEADERS:
            continue
        if not text.strip() or _surrogate(text):
            raise InputError(
                f"{path}:{number}: field 'text' must be a text that is not empty, without lone "
                "surrogates"
            )
        if name in queries:
            raise InputError(f"{path}:{number}: query id {name!r} is there twice")
        queries[name] = text.strip()
    if not queries:
        raise InputError(f"{path}: the file is empty")
    return [*queries.items()]


def _tabbed(line: str, number: int, where: str) -> tuple[str, str]:
    """Return id and text of a line with both between tabs."""
    name, tab, text = line.partition("\t")
    if not tab or not name.strip():
        raise InputError(f"{where}: expected id and text with a tab between them")
    return name.strip(), text


def _object(line: str, number: int, where: str) -> tuple[str, str]:
    """Return id and text of a line with a JSON object."""
    try:
        item = json.loads(line, object_pairs_hook=_once)
        text = item["text"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f'{where}: expected {{"id": "q1", "text": "a query"}}, or a file named .tsv with id '
            f"and text between tabs ({error})"
        ) from error
    name = item.get("id", item.get("_id", number))
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise InputError(f"{where}: field 'id' must be a string or an integer")
    return str(name), text if isinstance(text, str) else ""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; raise `ValueError` for a key that is there twice."""
    item = dict(pairs)
    if len(item) < len(pairs):
        raise ValueError("a key is there twice")
    return item


def _surrogate(text: str) -> bool:
    """Say whether a text has half of a surrogate pair, which no tokenizer and no file takes."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def corpus_of(datamodule: Any) -> Corpus:
    """Return the documents of a data module: its own `corpus`, or that of its test records.

    Raises:
        InputError: Its records have no documents.
    """
    corpus = getattr(datamodule, "corpus", None)
    if isinstance(corpus, Corpus):
        return corpus
    corpus = getattr(datamodule.records("test")[0], "corpus", None)
    if not isinstance(corpus, Corpus):
        raise InputError(f"data: {type(datamodule).__name__} has no documents to index")
    return corpus
