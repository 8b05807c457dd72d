"""Cranfield: abstracts on aerodynamics with judged queries, the oldest test collection (1967).

Three files of the SMART distribution: `cran.all.1400` (documents: `.I` number, `.T` title, `.A`
authors, `.B` source, `.W` text), `cran.qry` (`.I`, `.W`) and `cranqrel` (query, document, code).

Traps of these files:

- `cranqrel` numbers the queries by their position, 1 to 225, not by their `.I` number.
- A code says how relevant a document is, and 1 is the best: 1 a complete answer, 2 a high degree of
  relevance, 3 useful background, 4 of minimum interest. The grade here is 5 - code, so 4 to 1.
- One line of each query has the code -1, which the files do not explain; its grade is 0 here.
- `.W` starts with the title again: the title is cut from the text.
- Documents 471 and 995 are empty. They are left out, with the one judgement on them.
- Two documents have a `.W` line inside their text.

There is no published split. Ours is by query, by a hash of its text: 60 / 20 / 20 percent (135 / 45
/ 45 queries). Rankers that learn nothing here may use all: `divide_queries: false`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, find, read_lines
from datamodules.judged_queries import (
    CandidateRun,
    Judgements,
    add_judgement,
    corpus_of,
    divided,
    grade_of,
    judged_records,
)
from datamodules.tables import SAMPLE_SHARES
from zoo.errors import InputError, check_counts
from zoo.records import Corpus, Document, Ranking, Record

EMPTY = ("471", "995")
GRADES = {1: 4, 2: 3, 3: 2, 4: 1, -1: 0}
"""Code of the judgements' file -> grade."""


class Cranfield(ZooDataModule):
    """Cranfield as `Ranking` records over the whole collection, one per query.

    Args:
        path: Folder with the three files (each may be gzipped). None reads a small sample that
            comes with the package.
        divide_queries: Divide the queries into three splits; False gives all of them to each.
        run: A file in trec_eval's run format; its documents are the candidates to rank again. None
            ranks the whole corpus. Its query ids are the positions.
        num_candidates: Candidates to take from the run; in training the relevant documents that it
            missed come on top.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Ranking,)

    def __init__(
        self,
        path: str | None = None,
        *,
        divide_queries: bool = True,
        run: str | None = None,
        num_candidates: int = 100,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.path, self.divide_queries = path, divide_queries
        check_counts("data", {"num_candidates": num_candidates})
        self.run = CandidateRun(run, num_candidates, EMPTY)
        self._corpus = Corpus({})

    def load(self, split: str) -> list[Record]:
        """Read the queries of a split."""
        documents, queries, judgements = self._files()
        if not self._corpus.documents:
            self._corpus = corpus_of(read_abstracts(documents))
        texts = [
            (str(position), where, parts.get("W", ""))
            for position, (where, _, parts) in enumerate(read_smart(queries), start=1)
        ]
        judged = read_judgements(judgements, len(texts), self._corpus)
        records = judged_records(texts, self._corpus, judged, split, self.run)
        if self.divide_queries:
            return divided(records, split, SAMPLE_SHARES, queries)
        return list(records)

    def _files(self) -> tuple[Path, Path, Path]:
        if self.path is None:
            names = ("cranfield_docs.txt", "cranfield_queries.txt", "cranfield_qrels.txt")
            return SAMPLES / names[0], SAMPLES / names[1], SAMPLES / names[2]
        folder = data_path(self.path)
        documents, queries, judgements = (
            find(folder, name, f"{name}.gz") for name in ("cran.all.1400", "cran.qry", "cranqrel")
        )
        return documents, queries, judgements


def read_smart(path: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield file and line, number, and the text of each part of every entry of a SMART file.

    Lines of a part are joined by blanks. A part that opens twice goes on.

    Raises:
        InputError: Text before the first part of an entry.
    """
    where, number, part = "", "", ""
    parts: dict[str, list[str]] = {}

    def entry() -> tuple[str, str, dict[str, str]]:
        return where, number, {name: " ".join(lines) for name, lines in parts.items()}

    for line_number, line in read_lines(path):
        place = f"{path}:{line_number}"
        if line.startswith(".I"):
            if where:
                yield entry()
            where, number, part, parts = place, line[2:].strip(), "", {}
        elif len(line.strip()) == 2 and line[0] == "." and line[1].isupper():
            part = line[1]
            parts.setdefault(part, [])
        elif not where or not part:
            raise InputError(f"{place}: expected '.I' and a part such as '.W', found {line[:40]!r}")
        else:
            parts[part].append(line.strip())
    yield entry()


def read_abstracts(path: Path) -> Iterator[tuple[str, Document]]:
    """Yield file and line with each document but the two empty ones."""
    for where, number, parts in read_smart(path):
        if not number.isdecimal():
            raise InputError(f"{where}: '.I' needs a number, found {number!r}")
        title, text = parts.get("T", ""), parts.get("W", "")
        if number in EMPTY and not title and not text:
            continue
        yield where, Document(number, text.removeprefix(title).strip(), title)


def read_judgements(path: Path, num_queries: int, corpus: Corpus) -> Judgements:
    """Return position of the query -> document -> grade.

    Raises:
        InputError: A line of another form, a code that there is not, or a query or document that
            is not there.
    """
    judged: Judgements = {}
    positions = {str(position) for position in range(1, num_queries + 1)}
    for number, line in read_lines(path):
        where, cells = f"{path}:{number}", line.split()
        if len(cells) != 3:
            raise InputError(f"{where}: {len(cells)} cells, expected 3: query document code")
        query, document = cells[0], cells[1]
        code = grade_of(cells[2], where)
        if code not in GRADES:
            raise InputError(f"{where}: unknown code {code}; one of: -1, 1, 2, 3, 4")
        position = query.lstrip("0")
        if position not in positions:
            raise InputError(
                f"{where}: no query {query!r}; queries are numbered by position, 1 to {num_queries}"
            )
        if document in EMPTY and document not in corpus.documents:
            continue
        if document not in corpus.documents:
            raise InputError(f"{where}: document {document!r} is not in the collection")
        add_judgement(judged, position, document, GRADES[code], where)
    return judged
