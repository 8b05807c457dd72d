"""Your own triples: a JSONL file a split, one object a line.

    {"query": "...", "thought": "...", "answer": "...", "kind": "...", "system": "...", "id": "..."}

`query` and `answer` are required. Without `thought` a method that learns one has nothing to learn
from that line. `kind` is the name under which accuracy is reported. Another field is an error, so a
misspelt `thougth` cannot silently train on answers alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, field, text_field
from datamodules.json_files import read_objects
from zoo.errors import InputError, nearest
from zoo.records import Record, Triple

REQUIRED = ("query", "answer")
FIELDS = tuple(item.name for item in fields(Triple))


class Triples(ZooDataModule):
    """A user's JSONL files as `Triple` records.

    Args:
        train: File of the training split. None reads the small sample that comes with the package,
            the same for every split.
        val: File of the validation split; needed to fit and validate.
        test: File of the test split; needed to test and predict.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Triple,)

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.paths = {"train": train, "val": val, "test": test}

    def load(self, split: str) -> list[Record]:
        """Read the file of a split."""
        if not any(self.paths.values()):
            return list(read_triples(SAMPLES / "triples.jsonl"))
        path = self.paths[split]
        if path is None:
            raise InputError(f"Triples: no file for {split!r}; set {split} to a JSONL file")
        return list(read_triples(data_path(path)))


def read_triples(path: Path) -> Iterator[Triple]:
    """Yield the triples of a JSONL file."""
    for number, item in read_objects(path):
        where = f"{path}:{number}"
        for name in item:
            if name not in FIELDS:
                raise InputError(f"{where}: unknown field {name!r}; {nearest(name, FIELDS)}")
        values = {name: text_field(item, name, where) for name in REQUIRED}
        for name in FIELDS:
            if name in item and name not in values:
                values[name] = field(item, name, str, where)
        values.setdefault("thought", "")
        values.setdefault("id", f"{path.name}:{number}")
        yield Triple(**values)
