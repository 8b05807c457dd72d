"""Your own chats: OpenAI's messages, ShareGPT, Alpaca, or a table of questions and replies.

Files are JSON (a list, or an object a line), CSV or Parquet. The forms are in `chat_forms`, the
rule for their messages in `chat_messages`. A user is the dialogue's `seeker`, an assistant its
`supporter`; every reply is learned, but those of `weight: 0`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.chat_forms import Chat, read_chats
from datamodules.chat_messages import USER
from datamodules.chat_rows import ON_BAD, OnBad
from datamodules.files import SAMPLES, data_path, one_of
from datamodules.tables import divide
from zoo.errors import InputError
from zoo.records import SEEKER, SUPPORTER, Dialogue, Record, Turn


class Chats(ZooDataModule):
    """Chats of a user's files as `Dialogue` records.

    Args:
        train: File of the training split. None, without the two below, reads the small sample that
            comes with the package, the same for every split.
        val: File of the validation split. None takes 10 percent of the training file, by a hash of
            what the user says first.
        test: File of the test split; needed to test and predict.
        ignore: Fields beside a chat that say nothing about it, such as `source`; all other unknown
            fields are errors.
        on_bad: `error` stops at the first bad row; `skip` leaves bad rows out, and says how many
            and the first three.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Dialogue,)

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
        self.paths = {"train": train, "val": val, "test": test}
        one_of("data.on_bad", on_bad, ON_BAD)
        self.ignore, self.on_bad = ignore, on_bad

    def load(self, split: str) -> list[Record]:
        """Read the file of a split."""
        path, train = self.paths[split], self.paths["train"]
        if not any(self.paths.values()):
            return list(self._read(SAMPLES / "chats.jsonl"))
        if train is not None and split != "test" and self.paths["val"] is None:
            records = self._read(data_path(train))
            mine = divide(records, _first, split, {"train": 90, "val": 10}, train)
            return list(mine)
        if path is None:
            raise InputError(f"Chats: no file for {split!r}; set {split} to one")
        return list(self._read(data_path(path)))

    def _read(self, path: Path) -> list[Dialogue]:
        chats = read_chats(path, self.ignore, self.on_bad)
        return [dialogue(chat) for chat in chats]


def _first(record: Dialogue) -> str:
    return next(turn.text for turn in record.turns if turn.speaker == SEEKER)


def dialogue(chat: Chat) -> Dialogue:
    """Return a chat as a dialogue whose supporter does not think."""
    turns = tuple(
        Turn(SEEKER, turn.text)
        if turn.role == USER
        else Turn(SUPPORTER, turn.text, thought="", learned=turn.learned)
        for turn in chat.turns
    )
    return Dialogue(turns, system=chat.system, id=chat.id)
