"""A user's own queries with relevant documents: JSONL, one query a line.

{"query": "q", "relevant": {"d1": 2, "d7": 1}, "candidates": ["d1", "d2", "d7"],
"kind": "k", "id": "i"}

`query` and `relevant` (document id -> grade; above 0 is relevant) are required. With a `corpus`
file, one `{"id", "text", "title"}` a line, `candidates` holds ids, or is left out to rank the whole
corpus. Without one, `candidates` holds such objects; an id that comes again has to name the same
document. Ids may be integers; a title may be null. Other fields are errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.files import data_path, field, text_field
from datamodules.json_files import read_objects
from datamodules.judged_queries import (
    corpus_of,
    document_of,
    grade_of,
    id_of,
    ranking,
    read_documents,
)
from datamodules.split_files import SplitFiles
from datamodules.tables import only
from zoo.errors import InputError
from zoo.records import Corpus, Document, Ranking

FIELDS = ("query", "relevant", "candidates", "kind", "id")
DOCUMENT_FIELDS = ("id", "text", "title")


class RankingRecords(SplitFiles):
    """A user's JSONL files as `Ranking` records.

    Args:
        corpus: File of the documents; None if every query brings its candidates.
        **files: A file a split, batches, limits and seed; see `SplitFiles`.
    """

    record_types = (Ranking,)
    sample = "ranking_records.jsonl"

    def __init__(self, *splits: Any, corpus: str | None = None, **files: Any) -> None:
        super().__init__(*splits, **files)
        self.corpus_path = corpus
        self._corpus: Corpus | None = None

    def read_file(self, path: Path) -> Iterator[Ranking]:
        """Yield the queries of a file; the corpus is read once. That of the sample is inside it."""
        if any(self.paths.values()) and self.corpus_path is not None and self._corpus is None:
            source = data_path(self.corpus_path)
            self._corpus = corpus_of(read_documents(_strict(source, DOCUMENT_FIELDS), source))
        return read_queries(path, self._corpus)


def read_queries(path: Path, corpus: Corpus | None) -> Iterator[Ranking]:
    """Yield the records of a JSONL file.

    Args:
        path: The file.
        corpus: The documents; None if the queries bring their own.
    """
    rows = list(_strict(path, FIELDS))
    if corpus is None:
        documents: dict[str, Document] = {}
        for line, item in rows:
            item["candidates"] = names = _collect(item, f"{path}:{line}", documents)
            for name in field(item, "relevant", dict, f"{path}:{line}"):
                if name not in names:
                    raise InputError(f"{path}:{line}: relevant {name!r} is not among candidates")
        corpus = Corpus(documents)
    for line, item in rows:
        where = f"{path}:{line}"
        grades = field(item, "relevant", dict, where)
        for name in grades:
            grade_of(field(grades, name, int, f"{where}: relevant"), f"{where}: relevant {name!r}")
        candidates = field(item, "candidates", list, where) if "candidates" in item else []
        if "candidates" in item and not candidates:
            raise InputError(f"{where}: field 'candidates' is empty")
        numbered = {f"candidates[{i}]": name for i, name in enumerate(candidates)}
        candidates = [id_of(numbered, place, where) for place in numbered]
        yield ranking(
            where,
            text_field(item, "query", where),
            corpus,
            grades,
            candidates=candidates,
            kind=field(item, "kind", str, where) if "kind" in item else "",
            id=id_of(item, "id", where) if "id" in item else f"{path.name}:{line}",
        )


def _strict(path: Path, names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a JSONL file that have no other fields."""
    for line, item in read_objects(path):
        only(item, names, f"{path}:{line}")
        yield line, item


def _collect(item: dict[str, Any], where: str, documents: dict[str, Document]) -> list[str]:
    """Add a query's own candidates; return their ids."""
    names = []
    for position, part in enumerate(field(item, "candidates", list, where)):
        place = f"{where}: candidates[{position}]"
        if not isinstance(part, dict):
            raise InputError(
                f"{place}: expected an object with id and text; ids alone need a corpus file"
            )
        only(part, DOCUMENT_FIELDS, place)
        document = document_of(part, place)
        if not document.content:
            raise InputError(f"{place}: field 'text' is empty")
        if documents.setdefault(document.id, document) != document:
            raise InputError(f"{place}: document id {document.id!r} names another text above")
        names.append(document.id)
    return names
