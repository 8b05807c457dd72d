"""Questions with a short answer: what is asked, the gold answer, whether an answer is right.

A `Question` shows its options as `A: ...`, `B: ...` and is answered by a letter; a `Triple` is an
open question with a short answer. Shared by the methods that doubt their own answers.
"""

from __future__ import annotations

import re

from zoo.encoding import Segment
from zoo.errors import InputError
from zoo.metrics.answers import exact, mentions
from zoo.prompts.chat_format import ChatFormat
from zoo.prompts.option_tokens import letter
from zoo.records import Question, Triple

Askable = Question | Triple
ASKABLE = (Question, Triple)
CHOICE_SYSTEM = "You answer a question with the letter of the right option."
OPEN_SYSTEM = "You answer a question in a few words."
MAX_OPTIONS = 26
LETTER = re.compile(r"\W*([A-Z])\s*(?:$|[:.)\n])")


def check(record: Askable) -> None:
    """Raise unless the record asks something that has an answer.

    Raises:
        InputError: The question or the answer is empty, or the options cannot be lettered.
    """
    name = record.id or "question"
    if isinstance(record, Triple):
        if not record.query.strip() or not record.answer.strip():
            field = "answer" if record.query.strip() else "query"
            raise InputError(f"{name}: the field {field!r} is empty")
        return
    if not record.question.strip():
        raise InputError(f"{name}: the field 'question' is empty")
    if not 2 <= len(record.options) <= MAX_OPTIONS:
        raise InputError(f"{name}: {len(record.options)} options; 2 to {MAX_OPTIONS} have letters")
    if not 0 <= record.gold < len(record.options):
        raise InputError(f"{name}: gold is {record.gold}, of {len(record.options)} options")


def letters(record: Askable) -> list[str] | None:
    """Return the letters to choose from; None for an open question."""
    if isinstance(record, Triple):
        return None
    return [letter(i) for i in range(len(record.options))]


def asked(record: Askable) -> str:
    """Return the user's turn: the question, with its options below it if it has any."""
    if isinstance(record, Triple):
        return record.query
    options = [f"{letter(i)}: {option}" for i, option in enumerate(record.options)]
    return "\n".join([record.question, *options])


def gold(record: Askable) -> str:
    """Return the right answer as it is to be written: a letter, or the answer's text."""
    return record.answer if isinstance(record, Triple) else letter(record.gold)


def right(record: Askable, answer: str) -> bool:
    """Return whether an answer is right.

    Of a question with options the letter counts: `B`, `B: the box`, `(B)`. An open answer is right
    if it is equal to the gold answer after normalising, or contains it as whole words.

    Example:
        >>> right(Triple("Where is it?", "", "the box"), "In the box.")
        True
        >>> right(Question("Where is it?", ("bag", "box"), 1), "A box")
        False
    """
    if isinstance(record, Triple):
        return exact(answer, record.answer) or mentions(answer, record.answer)
    match = LETTER.match(answer.strip())
    return match is not None and match[1] == letter(record.gold)


def key(record: Askable) -> str:
    """Return a name of the record that no other record of its dataset has."""
    return record.id or asked(record)


def opening(chat: ChatFormat, record: Askable) -> list[Segment]:
    """Return the system and user turns of a question, up to the user's end-of-turn."""
    system = CHOICE_SYSTEM
    if isinstance(record, Triple):
        system = record.system or OPEN_SYSTEM
    return chat.turn("system", system, first=True) + chat.turn("user", asked(record))


def follow_up(chat: ChatFormat, record: Askable, answer: str, instruction: str) -> list[Segment]:
    """Return a question, an answer given to it, and an instruction about that answer.

    Nothing of it is supervised; what follows is `chat.open("assistant")` and the reaction.

    Args:
        chat: Turn markers.
        record: The question.
        answer: What was answered.
        instruction: What is asked about the answer.
    """
    given = chat.turn("assistant", answer)
    return [*opening(chat, record), *given, *chat.turn("user", instruction)]
