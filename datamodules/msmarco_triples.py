"""MS MARCO passage triples: a query, a relevant passage, another passage (Nguyen et al., 2016).

Two forms of the authors' download are read, and the subset `triplet` of the datasets
`hf://sentence-transformers/msmarco-*`, `query, positive, negative` in texts (see `hub.py`):

- `triples.train.small.tsv`: the three texts between tabs, one triple a line;
- `qidpidtriples.train.*.tsv`: their ids between tabs, with `queries.*.tsv` (id, text) and
  `collection.tsv` (id, passage). Only passages that a triple names are kept.

The triples of one query become one record: its passages are the candidates, those that stood in
second place are relevant. Texts without ids are named by their hash, so that the order among equal
scores tells nothing. There are no held-out triples: the split is ours, by query, by a hash of its
text, 90 / 5 / 5 percent.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from datamodules import hub
from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, read_lines, text_field
from datamodules.judged_queries import divided, ranking, report_missing
from datamodules.tables import SAMPLE_SHARES, digest
from zoo.errors import InputError, check_counts
from zoo.records import Corpus, Document, Ranking, Record

SHARES = {"train": 90, "val": 5, "test": 5}
COLUMNS = ("query", "positive", "negative")
NAME = 16  # characters of a text's name


class MSMARCOTriples(ZooDataModule):
    """MS MARCO triples as `Ranking` records, one per query.

    Args:
        path: File of the triples (may be gzipped), or `hf://sentence-transformers/msmarco-bm25`.
            None reads a small sample that comes with the package.
        queries: File of the queries, for triples of ids; None for triples of texts.
        collection: File of the passages, for triples of ids.
        max_lines: Read only the first so many triples; None reads all.
        skip_missing: Leave triples whose query or passages are not in those files out, and say how
            many, instead of refusing them.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Ranking,)

    def __init__(
        self,
        path: str | None = None,
        *,
        queries: str | None = None,
        collection: str | None = None,
        max_lines: int | None = None,
        skip_missing: bool = False,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        if (queries is None) != (collection is None):
            raise InputError("MSMARCOTriples: triples of ids need both queries and collection")
        self.path, self.queries, self.collection = path, queries, collection
        check_counts("data", {"max_lines": max_lines})
        self.max_lines, self.skip_missing = max_lines, skip_missing
        self._all: list[Ranking] = []

    def load(self, split: str) -> list[Record]:
        """Read the queries of a split."""
        path = SAMPLES / "msmarco_triples.tsv" if self.path is None else data_path(self.path)
        if not self._all:
            rows = read_triples(self.path or path, self.max_lines)
            if self.queries is None or self.collection is None:
                self._all = list(from_texts(rows, path))
            else:
                tables = data_path(self.queries), data_path(self.collection)
                self._all = list(from_ids(rows, path, *tables, skip_missing=self.skip_missing))
        shares = SAMPLE_SHARES if self.path is None else SHARES
        return divided(self._all, split, shares, path)


Row = tuple[int, str, str, str]
"""Line number, query, relevant passage, other passage."""


Line = tuple[int, str, list[str]]
"""Line number, place for errors, the three texts."""


def _between_tabs(path: Path) -> Iterator[Line]:
    for number, line in read_lines(path):
        yield number, f"{path}:{number}", [cell.strip() for cell in line.split("\t")]


def _from_hub(path: str) -> Iterator[Line]:
    found = hub.rows(path, hub.SPLIT_NAMES["train"], COLUMNS, "triplet")
    for number, (where, _, row) in enumerate(found, start=1):
        yield number, where, [text_field(row, column, where) for column in COLUMNS]


def read_triples(path: Path | str, max_lines: int | None = None) -> list[Row]:
    """Return the triples of a file, or of the hub's form.

    Raises:
        InputError: A line that has not three parts between tabs, an empty part, or a passage in
            both roles for one query.
    """
    from_hub = hub.is_hub(str(path))
    lines = _from_hub(str(path)) if from_hub else _between_tabs(data_path(str(path)))
    rows: list[Row] = []
    roles: dict[tuple[str, str], tuple[int, int]] = {}
    for number, where, cells in islice(lines, max_lines):
        if len(cells) != 3:
            raise InputError(f"{where}: {len(cells)} cells between tabs, expected 3")
        for what, text in zip(("query", "relevant passage", "other passage"), cells, strict=True):
            if not text:
                raise InputError(f"{where}: the {what} is empty")
        query, positive, negative = cells
        for role, passage in enumerate((positive, negative)):
            known, line_known = roles.setdefault((query, passage), (role, number))
            if known != role:
                raise InputError(
                    f"{where}: a passage is relevant and not for one query (see line {line_known})"
                )
        rows.append((number, query, positive, negative))
    return rows


def from_texts(rows: list[Row], path: Path) -> Iterator[Ranking]:
    """Yield the records of triples of texts."""
    names = {text: digest(text).hex()[:NAME] for row in rows for text in row[2:]}
    corpus = Corpus({name: Document(name, text) for text, name in names.items()})
    named = [(number, query, names[a], names[b]) for number, query, a, b in rows]
    yield from _records(named, path, corpus, None)


def from_ids(
    rows: list[Row], path: Path, queries: Path, collection: Path, *, skip_missing: bool = False
) -> Iterator[Ranking]:
    """Yield the records of triples of ids.

    Args:
        rows: The triples.
        path: Their file.
        queries: File of the queries.
        collection: File of the passages.
        skip_missing: Leave triples that name what is not there out, and say how many.

    Raises:
        InputError: A triple names a query or passage that is not there.
    """
    texts = _read_table(queries, {row[1] for row in rows})
    passages = _read_table(collection, {name for row in rows for name in row[2:]})
    whole: list[Row] = []
    missing: list[str] = []
    for row in rows:
        number, query, *names = row
        unknown = [] if query in texts else [f"query {query!r} is not in {queries}"]
        unknown += [f"passage {n!r} is not in {collection}" for n in names if n not in passages]
        if unknown and not skip_missing:
            raise InputError(
                f"{path}:{number}: {unknown[0]}; set skip_missing to true to leave such triples out"
            )
        if unknown:
            missing.append(f"line {number}, {unknown[0]}")
        else:
            whole.append(row)
    report_missing(path, missing, "triples")
    corpus = Corpus({name: Document(name, text) for name, text in passages.items()})
    yield from _records(whole, path, corpus, texts)


def _records(
    rows: list[Row], path: Path, corpus: Corpus, texts: dict[str, str] | None
) -> Iterator[Ranking]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[1], []).append(row)
    for query, triples in groups.items():
        number = triples[0][0]
        grades = {positive: 1 for _, _, positive, _ in triples}
        candidates = sorted({name for triple in triples for name in triple[2:]})
        yield ranking(
            f"{path}:{number}",
            query if texts is None else texts[query],
            corpus,
            grades,
            candidates=candidates,
            id=f"{path.name}:{number}" if texts is None else query,
        )


def _read_table(path: Path, wanted: set[str]) -> dict[str, str]:
    """Return id -> text of the wanted lines of a file with two columns between tabs."""
    texts: dict[str, str] = {}
    for number, line in read_lines(path):
        name, tab, text = line.partition("\t")
        if name not in wanted:
            continue
        if not tab or not text.strip():
            raise InputError(f"{path}:{number}: the text of {name!r} is empty")
        if name in texts:
            raise InputError(f"{path}:{number}: id {name!r} is there twice")
        texts[name] = text.strip()
    return texts
