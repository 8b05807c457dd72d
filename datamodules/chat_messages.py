"""Messages of chats in the forms that people have, under one rule.

    messages          [{"role": "user", "content": "..."}, ...]   OpenAI; or `conversation`
    conversations     [{"from": "human", "value": "..."}, ...]    ShareGPT

The rule:

- System messages stand before the first user message and are joined in order by an empty line.
- Neighbours of one role are one turn, joined by an empty line.
- A chat ends before its first empty assistant message and at its last reply; what is left out there
  is counted and said. A chat that keeps no reply is left out, counted and said.
- `weight: 0` of an assistant message: its reply is shown and not learned.
- Messages of tools, calls of tools, contents that are no text, other roles and other fields are
  errors that name the message: nothing is passed over in silence. Null and empty lists say nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from datamodules.files import as_object, objects, one_of
from datamodules.files import field as checked
from datamodules.tables import only
from zoo.errors import InputError

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = {
    **{"system": SYSTEM, "developer": SYSTEM},
    **{"user": USER, "human": USER},
    **{"assistant": ASSISTANT, "gpt": ASSISTANT, "chatgpt": ASSISTANT},
}
TOOLS = ("tool", "function", "function_call", "function_response", "observation", "ipython")
CALLS = ("tool_calls", "function_call")
NOTHING: tuple[Any, ...] = (None, [], {})


@dataclass(frozen=True, slots=True)
class Message:
    """A message, or neighbours of one role joined.

    Attributes:
        role: `system`, `user` or `assistant`, or a role that a data set adds.
        text: Its text without surrounding blanks; only an assistant's may be empty.
        place: File, line and number of the message, for errors.
        learned: Whether its weight lets it be learned.
        beside: Its other fields.
    """

    role: str
    text: str
    place: str
    learned: bool = True
    beside: dict[str, Any] = field(default_factory=dict)


def read_messages(
    row: Mapping[str, Any],
    name: str,
    where: str,
    extra: Mapping[str, Collection[str]] | None = None,
) -> list[Message]:
    """Return the messages of a row.

    Args:
        row: The object that has them.
        name: Field of the list.
        where: File and line for errors.
        extra: Fields that a data set adds to messages by role; a role of its own may be there.

    Raises:
        InputError: The list is empty, or a message breaks the rule above.
    """
    messages = [_message(item, place, extra or {}) for place, item in objects(row, name, where)]
    if not messages:
        raise InputError(f"{where}: field {name!r} is empty")
    return messages


def _message(item: dict[str, Any], place: str, extra: Mapping[str, Collection[str]]) -> Message:
    share = "from" in item or "value" in item
    role_key, text_key = ("from", "value") if share else ("role", "content")
    given = {key: value for key, value in item.items() if key == text_key or value not in NOTHING}
    role = checked(given, role_key, str, place)
    tools = [*[role] * (role in TOOLS), *[key for key in CALLS if key in given]]
    if tools:
        raise InputError(f"{place}: {tools[0]!r}: chats with tools are not read")
    role = ROLES.get(role) or one_of(f"field {role_key!r}", role, [*ROLES, *extra], place)
    fields = extra.get(role, ())
    only(given, (role_key, text_key, *fields, *["weight"] * (role == ASSISTANT)), place)
    text = _text(given, text_key, place)
    if not text and role in (USER, *extra) and role != ASSISTANT:
        raise InputError(f"{place}: field {text_key!r} is empty")
    beside = {key: given[key] for key in fields if key in given}
    return Message(role, text, place, _learned(given, place), beside)


def _text(item: Mapping[str, Any], key: str, place: str) -> str:
    """Return a message's text: a string, null for none, or OpenAI's list of text parts."""
    content = item[key] if key in item else checked(item, key, str, place)
    if content is None:
        return ""
    if not isinstance(content, list):
        return checked(item, key, str, place).strip()
    texts = []
    for i, part in enumerate(content):
        inside = f"{place}.{key}[{i}]"
        kind = checked(as_object(part, inside), "type", str, inside)
        if kind != "text":
            raise InputError(f"{inside}: a part of type {kind!r}; only text is read")
        texts.append(checked(part, "text", str, inside).strip())
    return "\n".join(texts).strip()


def _learned(item: Mapping[str, Any], place: str) -> bool:
    weight = item.get("weight", 1)
    if isinstance(weight, bool) or weight not in (0, 1):
        raise InputError(f"{place}: field 'weight' is {weight!r}; 0 or 1, learned or not")
    return bool(weight)


def system_and_turns(messages: Sequence[Message]) -> tuple[str, list[Message]]:
    """Return the system text and the turns of user and assistant, neighbours of one role joined.

    Raises:
        InputError: A system message comes late, or neighbours contradict each other.
    """
    system: list[str] = []
    turns: list[Message] = []
    for message in messages:
        if message.role == SYSTEM:
            if turns:
                raise InputError(
                    f"{message.place}: a system message; they stand before the first user message"
                )
            system.append(message.text)
        elif turns and turns[-1].role == message.role:
            turns[-1] = _joined(turns[-1], message)
        else:
            turns.append(message)
    return "\n\n".join(filter(None, system)), turns


def _joined(first: Message, second: Message) -> Message:
    twice = [
        key
        for key in second.beside
        if first.beside.get(key, second.beside[key]) != second.beside[key]
    ]
    if twice or first.learned != second.learned:
        what = twice[0] if twice else "weight"
        raise InputError(f"{second.place}: another {what!r} than that of the message it goes on")
    text = "\n\n".join(filter(None, (first.text, second.text)))
    return replace(first, text=text, beside={**first.beside, **second.beside})
