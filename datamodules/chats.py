"""Your own chats: OpenAI's messages, ShareGPT, Alpaca, or a table of questions and replies.

Files are JSON (a list, or an object a line), CSV or Parquet. The forms are in `chat_forms`, the
rule for their messages in `chat_messages`. A user is the dialogue's `seeker`, an assistant its
`supporter`; every reply is learned, but those of `weight: 0`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.chat_forms import Chat, read_chats
from datamodules.chat_messages import USER
from datamodules.split_files import RowFiles
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn


class Chats(RowFiles):
    """Chats of a user's files as `Dialogue` records.

    Without `val`, a hash of what the user says first gives 10 percent of `train` to validation.

    Args:
        **files: A file a split, bad rows, batches, limits and seed; see `RowFiles`.
    """

    record_types = (Dialogue,)
    sample = "chats.jsonl"

    def group_of(self, record: Any) -> str:
        """Return what the user says first."""
        return next(turn.text for turn in record.turns if turn.speaker == SEEKER)

    def read_file(self, path: Path) -> Iterator[Dialogue]:
        """Yield the chats of a file."""
        return map(dialogue, read_chats(path, self.ignore, self.on_bad))


def dialogue(chat: Chat) -> Dialogue:
    """Return a chat as a dialogue whose supporter does not think."""
    turns = tuple(
        Turn(SEEKER, turn.text)
        if turn.role == USER
        else Turn(SUPPORTER, turn.text, thought="", learned=turn.learned)
        for turn in chat.turns
    )
    return Dialogue(turns, system=chat.system, id=chat.id)
