"""One sample of `ConditionedChat`: reading it, and writing its condition and prompt."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datamodules.chat_forms import Chat, ChatReader
from datamodules.chat_messages import USER
from datamodules.chat_rows import OnBad, read_rows
from zoo.errors import InputError
from zoo.records import Conditioned

BESIDE = ("task_description", "user_profiles", "domain")
IN_REPLY = ("style", "sentiment")
CONDITIONS = BESIDE + IN_REPLY
WITH_INSTRUCTION = ("user_profiles", "domain")  # conditions that the instruction is a part of
FIELDS = ("task", "context", "history", *BESIDE)
MESSAGE_FIELDS = {"user": ("instruction",), "assistant": IN_REPLY, **dict.fromkeys(IN_REPLY, ())}


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample as the file has it.

    Attributes:
        kind: Field of the condition; empty for none.
        values: The condition: one text, or the lines of a profile.
        question: The last user message.
        response: The last assistant message.
        instruction: Instruction of the user message.
        system: Text of a system message.
        context: Text to read before the question.
        history: `(user, assistant)` pairs before the question.
        task: The task's name.
        where: File and line for errors.
        id: File's name and line.
    """

    kind: str
    values: tuple[str, ...]
    question: str
    response: str
    instruction: str
    system: str
    context: str
    history: tuple[tuple[str, str], ...]
    task: str
    where: str
    id: str

    def with_condition(self, kind: str, values: tuple[str, ...]) -> Sample:
        """Return the sample with another condition."""
        return replace(self, kind=kind, values=values)

    def record(self, wording: str, place: str) -> Conditioned:
        """Return the record; see `conditioned_chat` for the arguments."""
        told, about_task = self._told(), self.kind in ("", "task_description")
        about = [self.instruction, "" if about_task else told]
        text = "\n\n".join(part for part in about if part)
        worded = text if self.kind in WITH_INSTRUCTION else told
        condition = "\n".join(self.values) if wording == "raw" else worded
        prompt = self.question
        if place == "query" and text:
            parts = [text, f"Question:\n{prompt}"] if self.kind == "user_profiles" else []
            prompt = "\n\n".join(parts or [prompt, text])
        if self.context:
            prompt = f"Consider context:\n{self.context}\n\nQuestion:\n{prompt}"
        system = [self.system, text if place == "system" else ""]
        if self.history:
            turns = [f"user: {asked}\nassistant: {answered}" for asked, answered in self.history]
            system.append("\n".join(["Conversation history:", *turns]))
        shown = "\n\n".join(part for part in system if part)
        return Conditioned(condition, prompt, self.response, shown, self.task, id=self.id)

    def _told(self) -> str:
        """Return the condition as the released preprocessing words it, without the instruction."""
        if self.kind == "user_profiles":
            return "\n".join(["Profiles:", *self.values])
        if self.kind == "domain":
            return f"Domain: {self.values[0]}"
        if self.kind == "sentiment":
            return f"Reply with sentiment: {self.values[0]}"
        if self.kind == "style":
            return f"Please answer the question with the style of {self.values[0]}."
        return "\n".join(self.values)


def read_samples(
    path: Path, kind: str = "", ignore: Collection[str] = (), on_bad: OnBad = "error"
) -> list[Sample]:
    """Return the samples of a file; says what was left out.

    Args:
        path: The file.
        kind: Field of the condition; empty for any.
        ignore: Fields that say nothing; see `chat_forms`.
        on_bad: See `chat_rows.read_rows`.
    """
    reader = ChatReader(ignore, FIELDS, MESSAGE_FIELDS)

    def read(row: dict[str, Any], where: str, name: str) -> Sample | None:
        chat = reader(row, where, name)
        return _sample(chat, kind, where) if chat else None

    samples = [sample for sample in read_rows(path, read, on_bad) if sample]
    reader.report(path)
    return samples


def _sample(chat: Chat, kind: str, where: str) -> Sample:
    *past, asked, replied = chat.turns
    if chat.turns[0].role != USER:
        raise InputError(f"{chat.turns[0].place}: a reply to nothing; expected a user message")
    if not replied.learned:
        raise InputError(f"{replied.place}: weight 0, but the last reply is what is learned")
    kind, values = _condition(_conditions(chat, where), kind, where)
    context, pairs = _before(chat.beside, where)
    instruction, task = asked.beside.get("instruction", ""), chat.beside.get("task", "")
    for key, value in (("instruction", instruction), ("task", task)):
        if not isinstance(value, str):
            raise InputError(f"{where}: field {key!r} must be a string")
    said = [turn.text for turn in past]
    return Sample(
        kind=kind,
        values=values,
        question=chat.input if chat.input and kind == "task_description" else asked.text,
        response=replied.text,
        instruction=instruction.strip(),
        system=chat.system,
        context=context,
        history=(*pairs, *zip(said[::2], said[1::2], strict=True)),
        task=task,
        where=where,
        id=chat.id,
    )


def _conditions(chat: Chat, where: str) -> dict[str, Any]:
    """Return the conditions beside the messages and of the last reply; Alpaca's instruction.

    Raises:
        InputError: One is there twice.
    """
    found = {key: chat.beside[key] for key in BESIDE if chat.beside.get(key)}
    last = chat.turns[-1].beside.items()
    task = [("task_description", chat.instruction)] if chat.input else []
    for key, value in (*((m.role, m.text) for m in chat.aside), *last, *task):
        if key in found:
            raise InputError(f"{where}: the condition {key!r} is there twice")
        found[key] = value
    return found


def _condition(found: dict[str, Any], kind: str, where: str) -> tuple[str, tuple[str, ...]]:
    """Return the field of the condition and its texts; both empty for none."""
    if not kind and len(found) > 1:
        names = ", ".join(sorted(found))
        raise InputError(f"{where}: more than one condition ({names}); set condition to one")
    kind = kind or next(iter(found), "")
    if not found.get(kind):
        return "", ()
    value = found[kind]
    values = value if isinstance(value, list) and kind == "user_profiles" else [value]
    if not all(isinstance(text, str) for text in values):
        expected = "a list of strings" if kind == "user_profiles" else "a string"
        raise InputError(f"{where}: field {kind!r} must be {expected}")
    texts = tuple(text.strip() for text in values if text.strip())
    return (kind, texts) if texts else ("", ())


def _before(item: dict[str, Any], where: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the text and the pairs that come before the question."""
    texts: list[str] = []
    pairs: list[tuple[str, str]] = []
    for name in ("context", "history"):
        value = item.get(name) or ""
        if isinstance(value, str):
            texts.append(value.strip())
            continue
        for i, pair in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(pair, list) or [type(text) for text in pair] != [str, str]:
                raise InputError(
                    f"{where}: {name}[{i}] must be a pair of strings, user and assistant"
                )
            pairs.append((pair[0].strip(), pair[1].strip()))
    return "\n".join(text for text in texts if text), pairs
