"""What an index is built of and asked: a data module's documents, a file of queries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.records import Corpus


def read_queries(path: Path) -> list[tuple[str, str]]:
    """Return id and text of each line of a JSONL file: `{"id" or "_id", "text"}`.

    Raises:
        InputError: The file cannot be read, or a line is no such object.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"queries: cannot read {path} ({error})") from error
    queries = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            text = item["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f'{path}:{number}: expected an object with "id" and "text"') from error
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{path}:{number}: field 'text' must be a text that is not empty")
        queries.append((str(item.get("id", item.get("_id", number))), text.strip()))
    if not queries:
        raise InputError(f"{path}: the file is empty")
    return queries


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
