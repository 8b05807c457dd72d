"""What data modules of your own files share: a file a split, and what becomes of bad rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from datamodules.base import ZooDataModule
from datamodules.chat_rows import OnBad
from datamodules.files import SAMPLES, data_path
from datamodules.tables import divide
from zoo.errors import InputError
from zoo.records import Record


class SplitFiles(ZooDataModule):
    """A data module with a file a split; a subclass sets `sample` and implements `read_file(path)`.

    Where a subclass implements `group_of(record)`, validation needs no file: it takes a tenth of
    `train`, by the hash of that text.

    Args:
        train: File of the training split. None, without the two below, reads the small sample that
            comes with the package, the same for every split.
        val: File of the validation split; needed to fit and validate, unless the class says that
            it takes a part of `train`.
        test: File of the test split; needed to test and predict.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    sample: ClassVar[str]

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.paths = {"train": train, "val": val, "test": test}

    def read_file(self, path: Path) -> Iterable[Record]:
        """Return the records of a file, read as they are asked for; a subclass implements this."""
        raise TypeError(f"{type(self).__name__} does not implement read_file(path)")

    def group_of(self, record: Any) -> str:
        """Return the text that stays in one split; a subclass that divides implements this."""
        raise TypeError(f"{type(self).__name__} does not implement group_of(record)")

    def load(self, split: str) -> Iterable[Record]:
        """Read the file of a split, or its part of the training file."""
        if not any(self.paths.values()):
            return self.read_file(SAMPLES / self.sample)
        path, train = self.paths[split], self.paths["train"]
        divides = type(self).group_of is not SplitFiles.group_of
        if divides and train is not None and self.paths["val"] is None and split != "test":
            records = list(self.read_file(data_path(train)))
            return divide(records, self.group_of, split, {"train": 90, "val": 10}, train)
        if path is None:
            raise InputError(f"{type(self).__name__}: no file for {split!r}; set {split} to one")
        return self.read_file(data_path(path))


class RowFiles(SplitFiles):
    """A data module of files with a record a row, read by `chat_rows.read_rows`.

    Args:
        ignore: Fields that say nothing; all other unknown fields are errors.
        on_bad: `error` stops at the first bad row; `skip` leaves bad rows out, and says how many
            and the first three.
        **files: A file a split, batches, limits and seed; see `SplitFiles`.
    """

    def __init__(
        self, *splits: Any, ignore: Sequence[str] = (), on_bad: OnBad = "error", **files: Any
    ) -> None:
        super().__init__(*splits, **files)
        self.ignore, self.on_bad = ignore, on_bad
