"""From queries, documents and judgements to ranking records, and what may be wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.files import field, read_lines
from datamodules.tables import divide
from zoo.errors import InputError
from zoo.records import Corpus, Document, Ranking, Record

Judgements = dict[str, dict[str, int]]
"""Query id -> document id -> grade."""


def corpus_of(rows: Iterable[tuple[str, Document]]) -> Corpus:
    """Return the documents in their order.

    Args:
        rows: Each document with its file and line.

    Raises:
        InputError: An empty document, or an id that is there twice.
    """
    documents: dict[str, Document] = {}
    places: dict[str, str] = {}
    for where, document in rows:
        if not document.content:
            raise InputError(f"{where}: document {document.id!r} is empty")
        if document.id in documents:
            raise InputError(
                f"{where}: document id {document.id!r} is there twice, first at "
                f"{places[document.id]}"
            )
        documents[document.id], places[document.id] = document, where
    return Corpus(documents)


def names_corpus(names: Sequence[str], definitions: Mapping[str, str] | None = None) -> Corpus:
    """Return documents that are names (strategies, skills), with their definitions if wanted.

    Args:
        names: The names; each is its document's id.
        definitions: Name -> definition to append; None for the names alone.
    """
    given = definitions or {}
    texts = {name: f"{name}: {given[name]}" if given else name for name in names}
    return Corpus({name: Document(name, text) for name, text in texts.items()})


def ranking(
    where: str,
    query: str,
    corpus: Corpus,
    grades: Mapping[str, int],
    *,
    candidates: Sequence[str] = (),
    kind: str = "",
    id: str = "",
) -> Ranking:
    """Return a record.

    Raises:
        InputError: An empty query, a judged or candidate document that the corpus lacks, a
            candidate that is there twice, or no relevant document.
    """
    if not query.strip():
        raise InputError(f"{where}: the query is empty")
    for what, names in (("judged document", grades), ("candidate", candidates)):
        for name in names:
            if name not in corpus.documents:
                raise InputError(f"{where}: {what} {name!r} is not in the corpus")
    if len(set(candidates)) < len(candidates):
        twice = next(name for i, name in enumerate(candidates) if name in candidates[:i])
        raise InputError(f"{where}: candidate {twice!r} is there twice")
    if all(grade <= 0 for grade in grades.values()):
        raise InputError(f"{where}: no relevant document, so nothing to find")
    return Ranking(query.strip(), corpus, tuple(grades.items()), tuple(candidates), kind, id)


def divided(
    records: Sequence[Ranking], split: str, shares: dict[str, int], path: Path
) -> list[Record]:
    """Return a split's share of the records, by a hash of the query (see `tables.divide`)."""
    mine: list[Ranking] = divide(records, lambda r: r.query, split, shares, str(path))
    return [*mine]


def read_documents(
    rows: Iterable[tuple[int, dict[str, Any]]], path: Path, *, id_field: str = "id"
) -> Iterator[tuple[str, Document]]:
    """Yield file and line with the document, from JSON objects with id, text and maybe title."""
    for number, item in rows:
        where = f"{path}:{number}"
        name = field(item, id_field, str, where)
        if not name:
            raise InputError(f"{where}: field {id_field!r} is empty")
        title = field(item, "title", str, where).strip() if "title" in item else ""
        yield where, Document(name, field(item, "text", str, where).strip(), title)


def grade_of(text: str, where: str) -> int:
    """Return a grade that a file writes as text.

    Raises:
        InputError: It is not an integer.
    """
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"{where}: the grade must be an integer, found {text!r}") from error


def add_judgement(judged: Judgements, query: str, document: str, grade: int, where: str) -> None:
    """Add a judgement; the same one may be there twice.

    Raises:
        InputError: The document has another grade already.
    """
    grades = judged.setdefault(query, {})
    if grades.setdefault(document, grade) != grade:
        raise InputError(
            f"{where}: document {document!r} has grade {grade} for query {query!r}, but "
            f"{grades[document]} above"
        )


def read_run(path: Path, num_candidates: int, known: Collection[str]) -> dict[str, list[str]]:
    """Return query id -> the first documents of a run in trec_eval's format, best first.

    A line holds `query Q0 document rank score tag`; the order is that of the scores.

    Args:
        path: The run.
        num_candidates: Documents to keep of each query.
        known: Ids of the corpus.

    Raises:
        InputError: A line of another form, a document that the corpus lacks or that is there
            twice.
    """
    scores: dict[str, dict[str, float]] = {}
    for number, line in read_lines(path):
        where, cells = f"{path}:{number}", line.split()
        if len(cells) != 6:
            raise InputError(
                f"{where}: {len(cells)} cells, expected 6: query Q0 document rank score tag"
            )
        query, _, name, _, score, _ = cells
        if name not in known:
            raise InputError(f"{where}: document {name!r} is not in the corpus")
        of_query = scores.setdefault(query, {})
        if name in of_query:
            raise InputError(f"{where}: document {name!r} is there twice for query {query!r}")
        try:
            of_query[name] = float(score)
        except ValueError as error:
            raise InputError(f"{where}: the score must be a number, found {score!r}") from error
    return {
        query: sorted(sorted(by_name, reverse=True), key=lambda n: -by_name[n])[:num_candidates]
        for query, by_name in scores.items()
    }


def judged_records(
    queries: Iterable[tuple[str, str, str]],
    corpus: Corpus,
    judged: Judgements,
    split: str,
    run: str | None,
    num_candidates: int,
) -> list[Ranking]:
    """Return the records of some queries.

    Args:
        queries: Id, place for errors, and text of each.
        corpus: All documents.
        judged: The judgements.
        split: In `train`, the relevant documents that a run missed are candidates too.
        run: File with the candidates in trec_eval's run format; None ranks the whole corpus.
        num_candidates: Candidates to take from the run.

    Raises:
        InputError: The run is wrong or has nothing for a query, or see `ranking`.
    """
    by_query = read_run(Path(run), num_candidates, corpus.documents) if run is not None else None
    records = []
    for name, where, text in queries:
        grades = judged.get(name, {})
        candidates: list[str] = []
        if by_query is not None:
            if name not in by_query:
                raise InputError(f"{run}: nothing was ranked for query {name!r}")
            candidates += by_query[name]
            if split == "train":
                relevant = (document for document, grade in grades.items() if grade > 0)
                candidates += [document for document in relevant if document not in candidates]
        records.append(ranking(where, text, corpus, grades, candidates=candidates, id=name))
    return records
