"""Your own triples: a file a split, JSON (an object a line, or a list), CSV or Parquet.

    {"query": "...", "thought": "...", "answer": "...", "kind": "...", "system": "...", "id": "..."}

`query` and `answer` are required. Without `thought` a method that learns one has nothing to learn
from that line. `kind` is the name under which accuracy is reported. Another field is an error, so a
misspelt `thougth` cannot silently train on answers alone; null is no field.

Files of other forms are read too where a row is one question and its reply: Alpaca, a prompt and
its response, messages (`chat_forms` lists them).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from datamodules.chat_forms import REPLIES, Chat, ChatReader
from datamodules.chat_messages import ASSISTANT, USER
from datamodules.chat_rows import read_rows
from datamodules.files import field, text_field
from datamodules.split_files import RowFiles
from datamodules.tables import only
from zoo.errors import InputError
from zoo.records import Triple

REQUIRED = ("query", "answer")
FIELDS = tuple(item.name for item in fields(Triple))


class Triples(RowFiles):
    """A user's files as `Triple` records.

    Args:
        **files: A file a split, bad rows, batches, limits and seed; see `RowFiles`.
    """

    record_types = (Triple,)
    sample = "triples.jsonl"

    def read_file(self, path: Path) -> Iterator[Triple]:
        """Yield the triples of a file; says at its end what was left out.

        Raises:
            InputError: A row is bad; a chat has more than one question and its reply.
        """
        reader = ChatReader(self.ignore)

        def one(row: dict[str, Any], where: str, name: str) -> Triple | None:
            if "query" in row and not set(row) & (set(REPLIES) - {"answer"}):
                return _own({k: v for k, v in row.items() if k not in self.ignore}, where, name)
            chat = reader(row, where, name)
            return _of_chat(chat, where) if chat else None

        yield from (triple for triple in read_rows(path, one, self.on_bad) if triple)
        reader.report(path)


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
