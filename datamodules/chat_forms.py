"""Chats in the forms that people have: which form a row is in, and the chat that it holds.

    field                                          form
    messages, conversations or conversation        a list of messages (`chat_messages`)
    instruction, input or context, output          Alpaca, Dolly; `history` of pairs, `system`
    prompt (or question, query, input) and         a question and its reply, `system`
      response (or completion, answer, output)

Every form may have an `id` and a `system` (or `system_prompt`). Other fields are errors, unless
`ignore` names them: a form is recognised whole or refused, never guessed.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.chat_messages import (
    ASSISTANT,
    NOTHING,
    ROLES,
    SYSTEM,
    USER,
    Message,
    read_messages,
    system_and_turns,
)
from datamodules.chat_rows import OnBad, read_rows
from datamodules.files import field as checked
from datamodules.files import first_few
from zoo.errors import InputError, SaidOnce, nearest

log = logging.getLogger(__name__)
log.addFilter(SaidOnce())  # a file may be read for two splits

LISTS = ("messages", "conversations", "conversation")
QUESTIONS = ("prompt", "question", "query", "input")
INPUTS = ("input", "context")
REPLIES = ("response", "completion", "answer", "output")
SYSTEMS = ("system", "system_prompt")
BESIDE = ("id", *SYSTEMS)
FOREIGN = {
    "chosen": "pairs of preference",
    "preferred_output": "OpenAI's form of preferences",
    "body": "requests to OpenAI's batch service",
    "mapping": "an export of ChatGPT",
    "text": "texts without roles",
}

EMPTY = "chats end before an empty assistant message"
UNANSWERED = "chats lose a last user message without a reply"
NO_REPLY = "chats without a reply are left out"


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat with a reply.

    Attributes:
        system: The system text, or empty.
        turns: User and assistant in turn, the last one a reply; either may begin.
        instruction: Alpaca's instruction where there is an input; the last user turn has both.
        input: That input.
        id: The row's `id`, or file's name and line.
        beside: Fields that a data set adds beside the messages.
        aside: Messages of the roles that a data set adds.
    """

    system: str
    turns: tuple[Message, ...]
    instruction: str
    input: str
    id: str
    beside: dict[str, Any]
    aside: tuple[Message, ...]


@dataclass
class ChatReader:
    """Reads rows as chats and counts what it leaves out; see `chat_rows.read_rows`.

    Attributes:
        ignore: Fields beside a chat that say nothing about it.
        beside: Fields that a data set adds beside a list of messages.
        extra: Fields that a data set adds to messages, by role, and so roles of its own.
        left_out: Places by what was left out there.
    """

    ignore: Collection[str] = ()
    beside: Collection[str] = ()
    extra: Mapping[str, Collection[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, row: dict[str, Any], where: str, name: str) -> Chat | None:
        """Return the chat of a row; None if no reply is left.

        Raises:
            InputError: The form is unknown, or something in it is wrong.
        """
        row = {key: value for key, value in row.items() if key not in self.ignore}
        listed = next((key for key in LISTS if key in row), None)
        task = ("", "")
        if listed:
            given = {k: v for k, v in row.items() if k == listed or v not in (*NOTHING, "")}
            _known(given, (listed, *BESIDE, *self.beside), where)
            messages = read_messages(given, listed, where, self.extra)
        else:
            given = {}
            messages, task = _flat(row, where)
        aside = tuple(message for message in messages if message.role not in ROLES.values())
        said = [message for message in messages if message not in aside]
        system, turns = system_and_turns([*_system(row, where), *said])
        kept = self.cut(turns, where)
        if kept and not any(turn.learned for turn in kept if turn.role == ASSISTANT):
            raise InputError(f"{kept[-1].place}: weight 0, as every reply: nothing is learned")
        named = name if row.get("id") in (None, "") else str(row["id"])
        beside = {key: given[key] for key in self.beside if key in given}
        return Chat(system, tuple(kept), *task, named, beside, aside) if kept else None

    def cut(self, turns: list[Message], where: str) -> list[Message]:
        """Return the turns up to the last reply before an empty one, or none; counts the rest."""
        empty = [i for i, turn in enumerate(turns) if turn.role == ASSISTANT and not turn.text]
        kept = turns[: empty[0]] if empty else turns
        kept = kept[:-1] if kept and kept[-1].role == USER else kept
        if all(turn.role == ASSISTANT for turn in kept):  # an opening is no reply
            kept = []
        if len(kept) < len(turns):
            self.left_out[NO_REPLY if not kept else EMPTY if empty else UNANSWERED].append(where)
        return kept

    def report(self, path: Path) -> None:
        """Say what was left out of a file."""
        for what, places in self.left_out.items():
            log.warning("%s: %d %s: %s", path, len(places), what, first_few(places))


def _flat(row: Mapping[str, Any], where: str) -> tuple[list[Message], tuple[str, str]]:
    """Return the messages of a question and its reply, and Alpaca's instruction and input.

    Raises:
        InputError: The fields are of no known form, or of two.
    """
    alpaca = "instruction" in row
    asked = ["instruction"] if alpaca else [key for key in QUESTIONS if key in row]
    inputs = [key for key in INPUTS if key in row] if alpaca else []
    replies = [key for key in REPLIES if key in row]
    if not asked or not replies:
        raise InputError(f"{where}: {_unknown(row)}")
    for names in (asked, inputs, replies):
        if len(names) > 1:
            raise InputError(f"{where}: both {names[0]!r} and {names[1]!r}; put one in data.ignore")
    _known(row, (*asked, *inputs, *replies, *["history"] * alpaca, *BESIDE), where)
    question, answer = _said(row, asked[0], where), _said(row, replies[0], where)
    if not question:
        raise InputError(f"{where}: field {asked[0]!r} is empty")
    context = _said(row, inputs[0], where) if inputs else ""
    text = "\n\n".join(filter(None, (question, context)))
    past = [
        Message((USER, ASSISTANT)[i % 2], said, where)
        for i, said in enumerate(_history(row, where))
    ]
    messages = [*past, Message(USER, text, where), Message(ASSISTANT, answer, where)]
    return messages, (question, context) if context else ("", "")


def _known(row: Mapping[str, Any], names: Collection[str], where: str) -> None:
    for name in row:
        if name not in names:
            hint = f"{nearest(name, names)}; if it says nothing, name it in data.ignore"
            raise InputError(f"{where}: unknown field {name!r}; {hint}")


def _unknown(row: Mapping[str, Any]) -> str:
    known = next((f"{name} ({key!r})" for key, name in FOREIGN.items() if key in row), None)
    if known:
        return f"{known}, not a chat"
    fields = ", ".join(map(repr, row)) or "none"
    return (
        f"fields of no known chat ({fields}): need {', '.join(LISTS[:2])}, or "
        f"{', '.join(('instruction', *QUESTIONS))} with {', '.join(REPLIES)}"
    )


def _said(row: Mapping[str, Any], key: str, where: str) -> str:
    """Return a text without surrounding blanks; null is empty."""
    return "" if row[key] is None else checked(row, key, str, where).strip()


def _system(row: Mapping[str, Any], where: str) -> list[Message]:
    keys = [key for key in SYSTEMS if key in row]
    return [Message(SYSTEM, _said(row, key, where), where) for key in keys]


def _history(row: Mapping[str, Any], where: str) -> list[str]:
    """Return what was said in turn before the instruction."""
    texts: list[str] = []
    for i, pair in enumerate(row.get("history") or []):
        if not isinstance(pair, list) or [type(text) for text in pair] != [str, str]:
            raise InputError(f"{where}: history[{i}] must be a pair of strings")
        texts += [text.strip() for text in pair]
    return texts


def read_chats(path: Path, ignore: Collection[str], on_bad: OnBad) -> Iterator[Chat]:
    """Yield the chats of a file; says at its end what was left out."""
    reader = ChatReader(ignore)
    yield from (chat for chat in read_rows(path, reader, on_bad) if chat)
    reader.report(path)
