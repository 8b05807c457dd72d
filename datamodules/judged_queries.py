"""From queries, documents and judgements to ranking records, and what may be wrong with them."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.files import data_path, field, first_few, read_lines, text_field
from datamodules.tables import divide
from zoo.errors import InputError
from zoo.records import Corpus, Document, Ranking, Record

log = logging.getLogger(__name__)

Judgements = dict[str, dict[str, int]]
"""Query id -> document id -> grade."""

HIGHEST = 2**31 - 1  # grade


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
    excluded: tuple[str, ...] = (),
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
    return Ranking(
        query.strip(), corpus, tuple(grades.items()), tuple(candidates), kind, id, excluded
    )


def divided(
    records: Sequence[Ranking], split: str, shares: dict[str, int], path: Path
) -> list[Record]:
    """Return a split's share of the records, by a hash of the query (see `tables.divide`)."""
    mine: list[Ranking] = divide(records, lambda r: r.query, split, shares, str(path))
    return [*mine]


def read_documents(
    rows: Iterable[tuple[str, dict[str, Any]]], path: Path, *, id_field: str = "id"
) -> Iterator[tuple[str, Document]]:
    """Yield file and line with the document, from JSON objects with id, text and maybe title."""
    for place, item in rows:
        where = f"{path}:{place}"
        yield where, document_of(item, where, id_field=id_field)


def document_of(item: Mapping[str, Any], where: str, *, id_field: str = "id") -> Document:
    """Return the document of a JSON object; a title that is null or not there is none."""
    title = "" if item.get("title") is None else field(item, "title", str, where).strip()
    return Document(id_of(item, id_field, where), field(item, "text", str, where).strip(), title)


def id_of(item: Mapping[str, Any], name: str, where: str) -> str:
    """Return a field with an id, which may be written as an integer."""
    value = item.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_field(item, name, where)


def grade_of(text: str | int, where: str) -> int:
    """Return a grade that a file writes as text or as a number.

    Raises:
        InputError: It is not an integer, or one of more than 32 bits.
    """
    try:
        grade = int(text)
    except ValueError as error:
        shown = repr(text)[:40]
        raise InputError(f"{where}: the grade must be an integer, found {shown}") from error
    if abs(grade) > HIGHEST:
        raise InputError(f"{where}: the grade is above {HIGHEST} or below -{HIGHEST}")
    return grade


def report_missing(path: Path, missing: Sequence[str], what: str) -> None:
    """Say how much of a file was left out since it names what is not there, and the first few."""
    if missing:
        shown = first_few(missing, joint="; ")
        log.warning("%s: %d %s left out: %s", path, len(missing), what, shown)


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


@dataclass(frozen=True)
class CandidateRun:
    """Where the candidates of queries come from, to be ranked again.

    Attributes:
        path: File in trec_eval's run format; None ranks the whole corpus.
        num_candidates: Candidates to take of each query.
        skip: Ids of documents to leave out; None leaves out all that the corpus lacks.
    """

    path: str | None
    num_candidates: int = 100
    skip: Collection[str] | None = ()


def read_run(run: CandidateRun, known: Collection[str]) -> dict[str, list[str]]:
    """Return query id -> the first documents of a run in trec_eval's format, best first.

    A line holds `query Q0 document rank score tag`; the order is that of the scores.

    Args:
        run: The run; it has a path.
        known: Ids of the corpus.

    Raises:
        InputError: A line of another form, a score that is no number, a document that the corpus
            lacks or that is there twice.
    """
    path, missing = data_path(str(run.path)), []
    scores: dict[str, dict[str, float]] = {}
    for number, line in read_lines(path):
        where, cells = f"{path}:{number}", line.split()
        if len(cells) != 6:
            raise InputError(
                f"{where}: {len(cells)} cells, expected 6: query Q0 document rank score tag"
            )
        query, _, name, _, score, _ = cells
        if name not in known:
            if run.skip is not None and name not in run.skip:
                raise InputError(f"{where}: document {name!r} is not in the corpus")
            missing.append(f"line {number}, document {name!r}")
            continue
        of_query = scores.setdefault(query, {})
        if name in of_query:
            raise InputError(f"{where}: document {name!r} is there twice for query {query!r}")
        try:
            of_query[name] = float(score)
        except ValueError as error:
            raise InputError(f"{where}: the score must be a number, found {score!r}") from error
        if math.isnan(of_query[name]):
            raise InputError(f"{where}: the score must be a number, found {score!r}")
    report_missing(path, missing, "candidates")
    return {
        query: sorted(sorted(by_name, reverse=True), key=lambda n: -by_name[n])
        for query, by_name in scores.items()
    }


def judged_records(
    queries: Iterable[tuple[str, str, str]],
    corpus: Corpus,
    judged: Judgements,
    split: str,
    run: CandidateRun,
    *,
    ignore_identical_ids: bool = False,
) -> list[Ranking]:
    """Return the records of some queries.

    Args:
        queries: Id, place for errors, and text of each.
        corpus: All documents.
        judged: The judgements.
        split: In `train`, the relevant documents that a run missed are candidates too.
        run: Where the candidates come from.
        ignore_identical_ids: Leave the document that has the query's id out of its pool.

    Raises:
        InputError: The run is wrong or has nothing for a query, or see `ranking`.
    """
    by_query = read_run(run, corpus.documents) if run.path is not None else None
    records = []
    for name, where, text in queries:
        grades = judged.get(name, {})
        excluded = (name,) if ignore_identical_ids and name in corpus.documents else ()
        candidates: list[str] = []
        if by_query is not None:
            others = [document for document in by_query.get(name, ()) if document not in excluded]
            if not others:
                raise InputError(f"{run.path}: nothing was ranked for query {name!r}")
            candidates += others[: run.num_candidates]
            if split == "train":
                relevant = (document for document, grade in grades.items() if grade > 0)
                candidates += [document for document in relevant if document not in candidates]
        record = ranking(
            *(where, text, corpus, grades), candidates=candidates, id=name, excluded=excluded
        )
        records.append(record)
    return records
