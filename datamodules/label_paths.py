"""Your own texts with a class at every level: CSV or JSON lines, any number of levels.

    text,level_1,level_2                       {"text": "My card is gone",
    My card is gone,bank,lost card              "labels": ["bank", "lost card"]}

`id` is optional; another column or field is an error. Every text needs all levels.

The classes come from the data, in alphabetical order. In a folder with a file a split they are the
classes of `train`, so that a class which nothing teaches shows as an error, or those of all files
with `taxonomy: all`. A single file is divided by a hash of the text, 80 / 10 / 10 percent, and its
classes are all that it has: a rare one may then lie in validation or test alone. Texts are shuffled
once for all: a file may be grouped by class, and `max_val` is to keep texts of many classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from datamodules.base import SPLITS, ZooDataModule
from datamodules.files import SAMPLES, data_path, field, find, shuffled, text_field
from datamodules.json_files import read_objects
from datamodules.tables import SHARES, cell, divide, only, present, read_csv, text_list
from datamodules.taxonomy import Row, label_paths, taxonomy_of
from zoo.errors import InputError
from zoo.records import LabelPath, Record, Taxonomy

STEMS = {"train": ("train",), "val": ("val", "valid", "validation", "dev"), "test": ("test",)}
ENDINGS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz")


class LabelPaths(ZooDataModule):
    """A user's texts with their classes as `LabelPath` records.

    Args:
        path: One file, which is divided, or a folder with `train`, `val` and `test` files (each
            `.csv` or `.jsonl`, or gzipped). None reads a small sample that comes with the package,
            the same for every split.
        taxonomy: Classes of a folder: those of `train`, or those of `all` its files.
        allow_shared_names: Let one name stand under several parents. Without it that is an error,
            since it mostly is a slip.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (LabelPath,)

    def __init__(
        self,
        path: str | None = None,
        *,
        taxonomy: Literal["train", "all"] = "train",
        allow_shared_names: bool = False,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.path, self.taxonomy, self.allow_shared_names = path, taxonomy, allow_shared_names
        self._taxonomy: Taxonomy | None = None

    def load(self, split: str) -> list[Record]:
        """Read the texts of a split, shuffled."""
        path = SAMPLES / "label_paths.csv" if self.path is None else data_path(self.path)
        if path.is_dir() or path.suffix == ".zip":
            rows = list(read_rows(_file(path, split)))
            if self._taxonomy is None:
                self._taxonomy = self._known(self._scope(path))
            return shuffled([*label_paths(rows, self._taxonomy)], 0)
        rows = list(read_rows(path))
        if self._taxonomy is None:
            self._taxonomy = self._known(rows)
        if self.path is not None:
            rows = divide(rows, lambda row: row.text, split, SHARES, str(path))
        return shuffled([*label_paths(rows, self._taxonomy)], 0)

    def _scope(self, folder: Path) -> list[Row]:
        """Return the rows whose classes make the taxonomy of a folder."""
        if self.taxonomy == "train":
            return list(read_rows(_file(folder, "train")))
        there = [split for split in SPLITS if present(folder, *_names(split))]
        return [row for split in there for row in read_rows(_file(folder, split))]

    def _known(self, rows: list[Row]) -> Taxonomy:
        return taxonomy_of(rows, shared_names=self.allow_shared_names)


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the texts of a file with their labels.

    Raises:
        InputError: The suffix is neither CSV nor JSON lines, or the file is wrong.
    """
    if path.name.endswith(ENDINGS[:2]):
        return _csv_rows(path)
    if path.name.endswith(ENDINGS[2:]):
        return _json_rows(path)
    raise InputError(f"{path}: the name must end in one of: {', '.join(ENDINGS)}")


def _csv_rows(path: Path) -> Iterator[Row]:
    levels: list[str] = []
    for number, row in read_csv(path, "text", "level_1"):
        where = f"{path}:{number}"
        if not levels:
            levels = _levels(list(row), f"{path}:1")
        filled = [name for name in levels if row[name].strip()]
        if filled != levels[: len(filled)]:
            absent = next(name for name in levels if name not in filled)
            raise InputError(f"{where}: column {absent!r} is empty, but {filled[-1]!r} is not")
        if not filled:
            raise InputError(f"{where}: column 'level_1' is empty")
        labels = tuple(row[name].strip() for name in filled)
        name = row.get("id", "").strip() or f"{path.name}:{number}"
        yield Row(cell(row, "text", where), labels, where, name)


def _levels(header: list[str], where: str) -> list[str]:
    """Return the columns of the levels, coarse to fine."""
    count = sum(name.startswith("level_") for name in header)
    levels = [f"level_{i + 1}" for i in range(count)]
    only(header, ["text", *levels, "id"], where, "column")
    return levels


def _json_rows(path: Path) -> Iterator[Row]:
    for place, item in read_objects(path):
        where = f"{path}:{place}"
        only(item, ("text", "labels", "id"), where)
        labels = tuple(text_list(item, "labels", where))
        own = field(item, "id", str, where) if "id" in item else f"{path.name}:{place}"
        yield Row(text_field(item, "text", where), labels, where, own)


def _names(split: str) -> list[str]:
    return [f"{stem}{ending}" for stem in STEMS[split] for ending in ENDINGS]


def _file(folder: Path, split: str) -> Path:
    """Return the file of a split.

    Raises:
        InputError: It is not there.
    """
    if folder.exists() and not present(folder, *_names(split)):
        stems = " or ".join(STEMS[split])
        raise InputError(f"{folder}: no file for {split!r}: {stems} with {', '.join(ENDINGS)}")
    return find(folder, *_names(split))
