"""DBpedia classes: articles with a class at each of three levels.

Files: `DBPEDIA_train.csv`, `DBPEDIA_val.csv`, `DBPEDIA_test.csv` (each may be gzipped, in a folder
or a zip archive), header with `text, l1, l2, l3`; other columns are not read. The published counts
are 240,942 / 36,003 / 60,794 articles and 9 / 70 / 219 classes; they were not checked against the
files here. Names stay as they are written (`SportsManager`).

The splits are the files'. The classes are those of the training file; a name may stand under
several parents.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, find
from datamodules.labels import Row, label_paths, taxonomy_of
from datamodules.tables import cell, read_csv
from zoo.records import LabelPath, Record, Taxonomy

LEVELS = ("l1", "l2", "l3")


class DBpedia(ZooDataModule):
    """DBpedia articles as `LabelPath` records with three levels.

    Args:
        path: Folder or zip archive with the three files. None reads a small sample that comes with
            the package, the same for every split.
        batch_size: Examples per micro-batch in training.
        eval_batch_size: Examples per batch in validation, test and prediction.
        max_tokens: Close a training micro-batch before it exceeds this many tokens; None for no
            limit.
        max_train: Number of training records to keep; None keeps all.
        max_val: Number of validation records to keep; None keeps all.
        max_test: Number of test records to keep; None keeps all.
        seed: Seed of the order of the training batches; the split does not depend on it.
        num_workers: Processes that collate batches.
    """

    record_types = (LabelPath,)

    def __init__(
        self,
        path: str | None = None,
        *,
        batch_size: int = 8,
        eval_batch_size: int = 16,
        max_tokens: int | None = None,
        max_train: int | None = None,
        max_val: int | None = None,
        max_test: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            max_tokens=max_tokens,
            max_train=max_train,
            max_val=max_val,
            max_test=max_test,
            seed=seed,
            num_workers=num_workers,
        )
        self.path = path
        self._taxonomy: Taxonomy | None = None

    def load(self, split: str) -> list[Record]:
        """Read the articles of a split."""
        rows = list(read_articles(self._file(split)))
        if self._taxonomy is None:
            train = rows if split == "train" else list(read_articles(self._file("train")))
            self._taxonomy = taxonomy_of(train, shared_names=True)
        return list(label_paths(rows, self._taxonomy))

    def _file(self, split: str) -> Path:
        if self.path is None:
            return SAMPLES / "dbpedia.csv"
        name = f"DBPEDIA_{split}.csv"
        return find(Path(self.path), name, f"{name}.gz")


def read_articles(path: Path) -> Iterator[Row]:
    """Yield the articles of a file."""
    for number, row in read_csv(path, "text", *LEVELS):
        where = f"{path}:{number}"
        labels = tuple(cell(row, name, where) for name in LEVELS)
        yield Row(cell(row, "text", where), labels, where, f"{path.name}:{number}")
