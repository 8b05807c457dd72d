"""One sample of `ConditionedChat`: reading it, and writing its condition and prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datamodules.files import field, objects, one_of, text_field
from datamodules.json_files import read_objects
from datamodules.tables import only
from zoo.errors import InputError
from zoo.records import Conditioned

BESIDE = ("task_description", "user_profiles", "domain")
IN_REPLY = ("style", "sentiment")
CONDITIONS = BESIDE + IN_REPLY
WORDINGS = ("paper", "raw")
PLACES = ("system", "query", "none")
FIELDS = ("messages", "task", "context", "history", *BESIDE)
MESSAGE_FIELDS = {
    "system": ("role", "content"),
    "user": ("role", "content", "instruction"),
    "assistant": ("role", "content", "weight", *IN_REPLY),
    **dict.fromkeys(IN_REPLY, ("role", "content")),
}


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
        told = self._told()
        about_task = self.kind in ("", "task_description")
        condition = "\n".join(self.values) if wording == "raw" or about_task else told
        text = self.instruction if about_task else told
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
        """Return the condition as the released preprocessing words it."""
        if self.kind == "user_profiles":
            text = "\n".join(["Profiles:", *self.values])
        elif self.kind == "domain":
            text = f"Domain: {self.values[0]}"
        elif self.kind == "sentiment":
            text = f"Reply with sentiment: {self.values[0]}"
        elif self.kind == "style":
            text = f"Please answer the question with the style of {self.values[0]}."
        else:
            return "\n".join(self.values)
        return f"{self.instruction}\n\n{text}" if self.instruction else text


def read_samples(path: Path, kind: str = "") -> Iterator[Sample]:
    """Yield the samples of a file; `kind` is the field of the condition, empty for any."""
    for number, item in read_objects(path):
        yield _sample(item, kind, f"{path}:{number}", f"{path.name}:{number}")


def _sample(item: dict[str, Any], kind: str, where: str, name: str) -> Sample:
    only(item, FIELDS, where)
    system, turns, found = _turns(item, where)
    kind, values = _condition(found, kind, where)
    context, pairs = _before(item, where)
    said = [turn["content"].strip() for turn in turns]
    instruction = turns[-2].get("instruction") or ""
    task = item.get("task") or ""
    for key, value in (("instruction", instruction), ("task", task)):
        if not isinstance(value, str):
            raise InputError(f"{where}: field {key!r} must be a string")
    return Sample(
        kind=kind,
        values=values,
        question=said[-2],
        response=said[-1],
        instruction=instruction.strip(),
        system=system,
        context=context,
        history=(*pairs, *zip(said[:-2:2], said[1:-2:2], strict=True)),
        task=task,
        where=where,
        id=name,
    )


def _turns(item: dict[str, Any], where: str) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
    """Return the system text, the messages of user and assistant in turn, and the conditions."""
    turns: list[dict[str, Any]] = []
    system, found = [], {key: item[key] for key in BESIDE if item.get(key)}
    unlearned = ""
    for place, message in objects(item, "messages", where):
        role, text = _role(message, place), text_field(message, "content", place)
        expected = ("user", "assistant")[len(turns) % 2]
        if role == "system" and not turns:
            system.append(text)
        elif role in IN_REPLY:
            _set(found, role, text, place)
        elif role == expected:
            turns.append(message)
            unlearned = "" if is_learned(message, place) else place
        else:
            late = "; system messages stand before the first user message"
            hint = late if role == "system" else f"; expected {expected!r}"
            raise InputError(f"{place}: field 'role' is {role!r}{hint}")
    if not turns or len(turns) % 2:
        raise InputError(f"{where}: field 'messages' does not end with an assistant message")
    if unlearned:
        raise InputError(f"{unlearned}: weight 0, but the last reply is what is learned")
    for key in IN_REPLY:
        if turns[-1].get(key):
            _set(found, key, turns[-1][key], where)
    return "\n\n".join(system), turns, found


def _role(message: dict[str, Any], place: str) -> str:
    """Return the role of a message, which has none but the fields of that role."""
    role = one_of("field 'role'", field(message, "role", str, place), MESSAGE_FIELDS, place)
    only(message, MESSAGE_FIELDS[role], place)
    return role


def _set(found: dict[str, Any], key: str, value: Any, where: str) -> None:
    if key in found:
        raise InputError(f"{where}: the condition {key!r} is there twice")
    found[key] = value


def is_learned(message: dict[str, Any], place: str) -> bool:
    """Say whether a message's `weight`, 0 or 1, lets it be learned; without one it is.

    Raises:
        InputError: It has another weight.
    """
    weight = message.get("weight", 1)
    if isinstance(weight, bool) or weight not in (0, 1):
        raise InputError(f"{place}: field 'weight' is {weight!r}; 0 or 1, learned or not")
    return bool(weight)


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
