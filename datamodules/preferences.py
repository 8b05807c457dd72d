"""Your own preferred answers: a file a split, JSON (an object a line, or a list), CSV or Parquet.

    {"query": "...", "chosen": "...", "rejected": "...", "system": "...", "kind": "..."}

`query` (or `prompt`, as TRL calls it), `chosen` and `rejected` are required; `id` may be there too.
All are texts; null is no field, and another field is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.chat_rows import ON_BAD, OnBad, read_rows
from datamodules.files import SAMPLES, data_path, field, one_of, text_field
from datamodules.tables import only
from zoo.errors import InputError
from zoo.records import Preference, Record

REQUIRED = ("query", "chosen", "rejected")
FIELDS = tuple(item.name for item in fields(Preference))


class Preferences(ZooDataModule):
    """A user's files as `Preference` records.

    Args:
        train: File of the training split. None reads the small sample that comes with the package,
            the same for every split.
        val: File of the validation split; needed to fit and validate.
        test: File of the test split; needed to test.
        ignore: Fields that say nothing; all other unknown fields are errors.
        on_bad: `error` stops at the first bad row; `skip` leaves bad rows out, and says how many
            and the first three.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Preference,)

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        *,
        ignore: Sequence[str] = (),
        on_bad: OnBad = "error",
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        one_of("data.on_bad", on_bad, ON_BAD)
        self.ignore, self.on_bad = ignore, on_bad
        self.paths = {"train": train, "val": val, "test": test}

    def load(self, split: str) -> list[Record]:
        """Read the file of a split."""
        if not any(self.paths.values()):
            return list(self._read(SAMPLES / "preferences.jsonl"))
        path = self.paths[split]
        if path is None:
            raise InputError(f"Preferences: no file for {split!r}; set {split} to one")
        return list(self._read(data_path(path)))

    def _read(self, path: Path) -> list[Preference]:
        return read_rows(path, self._row, self.on_bad)

    def _row(self, row: dict[str, Any], where: str, name: str) -> Preference:
        given = {k: v for k, v in row.items() if v is not None and k not in self.ignore}
        if "query" not in given and "prompt" in given:
            given["query"] = given.pop("prompt")
        only(given, FIELDS, where)
        texts = {key: text_field(given, key, where) for key in REQUIRED}
        if texts["chosen"] == texts["rejected"]:
            raise InputError(f"{where}: chosen and rejected are the same text")
        others = {key: field(given, key, str, where) for key in given if key not in REQUIRED}
        return Preference(**{**others, **texts, "id": others.get("id") or name})
