"""Your own preferred answers: a file a split, JSON (an object a line, or a list), CSV or Parquet.

    {"query": "...", "chosen": "...", "rejected": "...", "system": "...", "kind": "..."}

`query` (or `prompt`, as TRL calls it), `chosen` and `rejected` are required; `id` may be there too.
All are texts; null is no field, and another field is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from datamodules.chat_rows import read_rows
from datamodules.files import field, text_field
from datamodules.split_files import RowFiles
from datamodules.tables import only
from zoo.errors import InputError
from zoo.records import Preference

REQUIRED = ("query", "chosen", "rejected")
FIELDS = tuple(item.name for item in fields(Preference))


class Preferences(RowFiles):
    """A user's files as `Preference` records.

    Args:
        **files: A file a split, bad rows, batches, limits and seed; see `RowFiles`.
    """

    record_types = (Preference,)
    sample = "preferences.jsonl"

    def read_file(self, path: Path) -> Iterator[Preference]:
        """Yield the preferences of a file."""
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
