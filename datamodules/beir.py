"""BEIR: retrieval datasets in one form (Thakur et al., NeurIPS 2021 datasets track).

A folder holds `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and
`qrels/train.tsv`, `dev.tsv`, `test.tsv` (`query-id`, `corpus-id`, `score` between tabs, or the four
columns of trec_eval, `query 0 document grade`; with or without a header line). Each may be gzipped.
Ids may be integers; a title that is null is none. Several datasets may lie in one folder under flat
names: `msmarco.corpus.jsonl.gz`, `msmarco.queries.jsonl`, `msmarco.qrels.test.tsv` is `msmarco`.

Or `hf://BeIR/scifact@refs/convert/parquet` (see `hub.py`): the subsets `corpus` and `queries`, and
the judgements of another dataset, `hf://BeIR/scifact-qrels`. Of a local copy the judgements lie in
its folder `qrels`.

The splits are the authors' (`val` is their `dev`). A dataset with test judgements only can be
divided: its queries, by a hash of their text, 60 / 20 / 20 percent.

A record is a query with a relevant document in the judgements of its split, in the order of the
queries' file; its `id` is the query's. Queries that nobody judged are left out, as in BEIR's own
evaluation, and so are those with nothing relevant (trec_eval would count 0 for them).

In ArguAna and Quora the queries are documents too. As in BEIR's evaluation (`ignore_identical_ids`)
a document with the query's id is not ranked, nor is it among the negatives in training; a judgement
that calls it relevant stays and counts as not found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from datamodules import hub
from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, find, read_lines, text_field
from datamodules.json_files import read_objects
from datamodules.judged_queries import (
    CandidateRun,
    Judgements,
    add_judgement,
    corpus_of,
    divided,
    document_of,
    grade_of,
    id_of,
    judged_records,
    report_missing,
)
from datamodules.tables import SAMPLE_SHARES
from zoo.errors import InputError, check_counts
from zoo.records import Corpus, Ranking, Record


class BEIR(ZooDataModule):
    """A dataset in BEIR's form as `Ranking` records, one per judged query.

    Args:
        path: The dataset's folder, or `hf://BeIR/<name>`. None reads a small one that comes with
            the package.
        name: Dataset under flat names in that folder; None for a folder of its own.
        qrels: Judgements in the form of the hub; None takes `hf://BeIR/<name>-qrels`, or those in
            the folder.
        divide_test: Divide the test judgements into three splits, for a dataset that has no others.
        run: A file in trec_eval's run format; its documents are the candidates to rank again. None
            ranks the whole corpus.
        num_candidates: Candidates to take from the run; in training the relevant documents that it
            missed come on top.
        skip_empty: Leave empty documents out, with their judgements, instead of refusing them.
        skip_missing: Leave judgements of queries or documents that are not there out, and
            candidates of the run that the corpus lacks, instead of refusing them; says how many.
        ignore_identical_ids: Do not rank the document that has the query's id. Set it to false if
            queries and documents are numbered apart, so that equal ids mean nothing.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Ranking,)

    def __init__(
        self,
        path: str | None = None,
        *,
        name: str | None = None,
        qrels: str | None = None,
        divide_test: bool = False,
        run: str | None = None,
        num_candidates: int = 100,
        skip_empty: bool = False,
        skip_missing: bool = False,
        ignore_identical_ids: bool = True,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.path, self.qrels = path, qrels
        if path is not None and path.startswith(hub.SCHEME) and qrels is None:
            self.qrels = f"{path.partition('@')[0]}-qrels"
        self.folder = SAMPLES if path is None else data_path(path)
        self.name = "beir" if path is None and name is None else name
        self.divide_test, self.skip_empty = divide_test, skip_empty
        check_counts("data", {"num_candidates": num_candidates})
        self.skip_missing, self.ignore_identical_ids = skip_missing, ignore_identical_ids
        self.run, self.num_candidates = run, num_candidates
        self._corpus = Corpus({})
        self._left_out: set[str] = set()
        self._queries: dict[str, str] = {}

    def load(self, split: str) -> list[Record]:
        """Read the judged queries of a split."""
        if not self._queries:
            self._read()
        path, lines = self._judgements("test" if self.divide_test else split)
        documents = self._corpus.documents
        judged = judgements_of(
            *(lines, path, self._queries, documents, self._left_out), skip_missing=self.skip_missing
        )
        run = CandidateRun(
            self.run, self.num_candidates, None if self.skip_missing else self._left_out
        )
        answered = [
            (query, str(path), text)
            for query, text in self._queries.items()
            if any(grade > 0 for grade in judged.get(query, {}).values())
        ]
        records = judged_records(
            *(answered, self._corpus, judged, split, run),
            ignore_identical_ids=self.ignore_identical_ids,
        )
        if not records:
            raise InputError(f"{path}: no query has a relevant document")
        if self.divide_test:
            return divided(records, split, SAMPLE_SHARES, path)
        return list(records)

    def _read(self) -> None:
        """Read documents and queries, once for all splits."""
        rows = []
        for where, item in self._objects("corpus"):
            document = document_of(item, where, id_field="_id")
            if not document.content and self.skip_empty:
                self._left_out.add(document.id)
            elif not document.content:
                raise InputError(
                    f"{where}: document {document.id!r} is empty; set skip_empty to true to leave "
                    f"such documents out"
                )
            else:
                rows.append((where, document))
        self._corpus = corpus_of(rows)
        queries: dict[str, str] = {}
        for where, item in self._objects("queries"):
            name = id_of(item, "_id", where)
            if name in queries:
                raise InputError(f"{where}: query id {name!r} is there twice")
            queries[name] = text_field(item, "text", where)
        self._queries = queries

    def _from_hub(self) -> bool:
        own = f"{self.name}.corpus.jsonl" if self.name else "corpus.jsonl"
        return self.path is not None and hub.is_hub(self.path, own, f"{own}.gz")

    def _objects(self, what: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield place and object of the documents (`corpus`) or the `queries`."""
        if self.path is not None and self._from_hub():
            columns = ("_id", "title", "text") if what == "corpus" else ("_id", "text")
            for where, _, row in hub.rows(self.path, (what, "train", "test"), columns, what):
                yield where, row
            return
        stem = f"{self.name}." if self.name else ""
        path = find(self.folder, f"{stem}{what}.jsonl", f"{stem}{what}.jsonl.gz")
        for place, item in read_objects(path):
            yield f"{path}:{place}", item

    def _judgements(self, split: str) -> tuple[Path, Iterator[Line]]:
        """Return the place of a split's judgements and its lines."""
        if self.qrels is not None:
            return Path(self.qrels), _hub_lines(self.qrels, split)
        if self.path is not None and self._from_hub():
            return Path(self.path), _hub_lines(str(self.folder / "qrels"), split)
        folder = self.folder if self.name else self.folder / "qrels"
        stem = f"{self.name}.qrels." if self.name else ""
        name = {"val": "dev"}.get(split, split)
        try:
            path = find(folder, f"{stem}{name}.tsv", f"{stem}{name}.tsv.gz")
        except InputError as error:
            if split == "test":
                raise
            raise InputError(
                f"{error}; set divide_test to true to divide the test judgements"
            ) from error
        return path, _file_lines(path)


Line = tuple[int, str, str, str, str]
"""Line number, place for errors, query, document, grade."""


def _hub_lines(path: str, split: str) -> Iterator[Line]:
    found = hub.rows(path, hub.SPLIT_NAMES[split], ("query-id", "corpus-id", "score"))
    for number, (where, _, row) in enumerate(found, start=1):
        query, document = (id_of(row, name, where) for name in ("query-id", "corpus-id"))
        score = row["score"]  # some datasets have whole numbers as 1.0
        whole = isinstance(score, float) and score.is_integer()
        yield number, where, query, document, str(int(score) if whole else score)


def _file_lines(path: Path) -> Iterator[Line]:
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
        if len(cells) not in (3, 4):
            raise InputError(
                f"{where}: {len(cells)} cells between tabs or blanks, expected 3 or 4: query, "
                "document, grade; or query, 0, document, grade"
            )
        yield number, where, cells[0], cells[-2], cells[-1]


def judgements_of(
    lines: Iterable[Line],
    path: Path,
    queries: Collection[str],
    documents: Collection[str],
    left_out: Collection[str] = (),
    *,
    skip_missing: bool = False,
) -> Judgements:
    """Return the grades of judgements; a first line that is a header is passed over.

    Args:
        lines: The judgements.
        path: Their file, for what is said.
        queries: Ids of the queries.
        documents: Ids of the corpus.
        left_out: Ids of documents whose judgements are left out.
        skip_missing: Leave judgements of what is not there out, and say how many.

    Raises:
        InputError: A line of another form, an id that is not there, or two grades for one pair.
    """
    judged: Judgements = {}
    missing: list[str] = []
    for position, (number, where, query, document, grade) in enumerate(lines):
        unknown = [] if query in queries else [f"query {query!r} is not in the queries' file"]
        if document not in documents and document not in left_out:
            unknown.append(f"document {document!r} is not in the corpus")
        if position == 0 and len(unknown) == 2 and not grade.lstrip("-").isdecimal():
            continue  # a header
        value = grade_of(grade, where)
        if unknown and not skip_missing:
            raise InputError(
                f"{where}: {unknown[0]}; set skip_missing to true to leave such judgements out"
            )
        if unknown:
            missing.append(f"line {number}, {unknown[0]}")
        elif document not in left_out:
            add_judgement(judged, query, document, value, where)
    report_missing(path, missing, "judgements")
    return judged
