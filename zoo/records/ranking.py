"""Documents, and the judgements of them for a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """What a query may find.

    Attributes:
        id: Name, unique in its corpus.
        text: The text.
        title: Title; may be empty.
    """

    id: str
    text: str
    title: str = ""

    @property
    def content(self) -> str:
        """Title and text on a line each, or the text alone: what a ranker reads."""
        return f"{self.title}\n{self.text}".strip()


@dataclass(frozen=True)
class Corpus:
    """Documents by their ids, in a fixed order; one object for all records of a dataset."""

    documents: dict[str, Document]

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.documents)


@dataclass(frozen=True, slots=True)
class Ranking:
    """A query with the documents that answer it.

    Attributes:
        query: The query, or the conversation up to what is to be answered.
        corpus: All documents.
        relevant: `(document id, grade)` of each judged document; a grade above 0 is relevant.
        candidates: Ids of the documents to rank; empty for the whole corpus (see `pool`).
        kind: Name under which scores are reported; may be empty.
        id: Where the record comes from.
        excluded: Ids of documents that are not ranked, such as the query's own text.
    """

    query: str
    corpus: Corpus
    relevant: tuple[tuple[str, int], ...]
    candidates: tuple[str, ...] = ()
    kind: str = ""
    id: str = ""
    excluded: tuple[str, ...] = ()

    @property
    def pool(self) -> Sequence[str]:
        """Ids of the documents to rank, in a fixed order."""
        names = self.candidates or self.corpus.documents
        return tuple(name for name in names if name not in self.excluded)
