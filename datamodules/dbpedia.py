"""DBpedia classes: articles with a class at each of three levels.

Files: `DBPEDIA_train.csv`, `DBPEDIA_val.csv`, `DBPEDIA_test.csv` (each may be gzipped, in a folder
or a zip archive), header with `text, l1, l2, l3`; other columns are not read. The published counts
are 240,942 / 36,003 / 60,794 articles and 9 / 70 / 219 classes; they were not checked against the
files here. Names stay as they are written (`SportsManager`).

`hf://DeveloperOats/DBPedia_Classes` (see `hub.py`) has the same columns.

The splits are the files'. The classes are those of the training file; a name may stand under
several parents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datamodules import hub
from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, find, text_field
from datamodules.tables import read_csv
from datamodules.taxonomy import Row, label_paths, taxonomy_of
from zoo.records import LabelPath, Record, Taxonomy

COLUMNS = ("text", "l1", "l2", "l3")


class DBpedia(ZooDataModule):
    """DBpedia articles as `LabelPath` records with three levels.

    Args:
        path: Folder or zip archive with the three files, or `hf://DeveloperOats/DBPedia_Classes`.
            None reads a small sample that comes with the package, the same for every split.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (LabelPath,)

    def __init__(self, path: str | None = None, **loader: Any) -> None:
        super().__init__(**loader)
        self.path = path
        self._taxonomy: Taxonomy | None = None

    def load(self, split: str) -> Iterator[Record]:
        """Read the articles of a split, after the classes of the training articles."""
        if self._taxonomy is None:
            self._taxonomy = taxonomy_of(self._articles("train"), shared_names=True)
        return label_paths(self._articles(split), self._taxonomy)

    def _articles(self, split: str) -> Iterator[Row]:
        if self.path is None:
            return read_articles(SAMPLES / "dbpedia.csv")
        if hub.is_hub(self.path):
            found = hub.rows(self.path, hub.SPLIT_NAMES[split], COLUMNS)
            return (_article(row, where, name) for where, name, row in found)
        name = f"DBPEDIA_{split}.csv"
        return read_articles(find(data_path(self.path), name, f"{name}.gz"))


def read_articles(path: Path) -> Iterator[Row]:
    """Yield the articles of a file."""
    for number, row in read_csv(path, *COLUMNS):
        yield _article(row, f"{path}:{number}", f"{path.name}:{number}")


def _article(row: Mapping[str, Any], where: str, name: str) -> Row:
    text, *labels = (text_field(row, column, where) for column in COLUMNS)
    return Row(text, tuple(labels), where, name)
