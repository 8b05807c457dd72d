"""Your own triples: a file a split, JSON (an object a line, or a list), CSV or Parquet.

    {"query": "...", "thought": "...", "answer": "...", "kind": "...", "system": "...", "id": "..."}

`query` and `answer` are required. Without `thought` a method that learns one has nothing to learn
from that line. `kind` is the name under which accuracy is reported. Another field is an error, so a
misspelt `thougth` cannot silently train on answers alone; null is no field.

Files of other forms are read too where a row is one question and its reply: Alpaca, a prompt and
its response, messages (`chat_forms` lists them).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.chat_forms import REPLIES, Chat, ChatReader
from datamodules.chat_messages import ASSISTANT, USER
from datamodules.chat_rows import ON_BAD, OnBad, read_rows
from datamodules.files import SAMPLES, data_path, field, one_of, text_field
from datamodules.tables import only
from zoo.errors import InputError
from zoo.records import Record, Triple

REQUIRED = ("query", "answer")
FIELDS = tuple(item.name for item in fields(Triple))


class Triples(ZooDataModule):
    """A user's files as `Triple` records.

    Args:
        train: File of the training split. None reads the small sample that comes with the package,
            the same for every split.
        val: File of the validation split; needed to fit and validate.
        test: File of the test split; needed to test and predict.
        ignore: Fields that say nothing; all other unknown fields are errors.
        on_bad: `error` stops at the first bad row; `skip` leaves bad rows out, and says how many
            and the first three.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Triple,)

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
            return list(read_triples(SAMPLES / "triples.jsonl"))
        path = self.paths[split]
        if path is None:
            raise InputError(f"Triples: no file for {split!r}; set {split} to one")
        return list(read_triples(data_path(path), self.ignore, self.on_bad))


def read_triples(path: Path, ignore: Collection[str] = (), on_bad: OnBad = "error") -> list[Triple]:
    """Return the triples of a file; says what was left out.

    Raises:
        InputError: A row is bad; a chat has more than one question and its reply.
    """
    reader = ChatReader(ignore)

    def read(row: dict[str, Any], where: str, name: str) -> Triple | None:
        if "query" in row and not set(row) & (set(REPLIES) - {"answer"}):
            return _own({k: v for k, v in row.items() if k not in ignore}, where, name)
        chat = reader(row, where, name)
        return _of_chat(chat, where) if chat else None

    triples = [triple for triple in read_rows(path, read, on_bad) if triple]
    reader.report(path)
    return triples


def _own(row: dict[str, Any], where: str, name: str) -> Triple:
    given = {key: value for key, value in row.items() if value is not None}
    only(given, FIELDS, where)
    texts = {key: text_field(given, key, where) for key in REQUIRED}
    others = {key: field(given, key, str, where) for key in given if key not in REQUIRED}
    return Triple(**{"thought": "", **others, **texts, "id": others.get("id") or name})


def _of_chat(chat: Chat, where: str) -> Triple:
    if [turn.role for turn in chat.turns] != [USER, ASSISTANT]:
        raise InputError(
            f"{where}: a chat of {len(chat.turns)} turns, not one question and its reply; "
            f"datamodules.Chats reads whole chats"
        )
    asked, replied = chat.turns
    return Triple(asked.text, "", replied.text, chat.system, id=chat.id)
