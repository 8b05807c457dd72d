"""Texts: plain ones, and conversations under a condition in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlainText:
    """A text to learn as it stands.

    Attributes:
        text: The text.
        doubt: `(start, stop, level)` of spans that somebody doubts, in characters, with a level
            from 0 (certain) to 1 (false); empty for none.
        kind: Name under which scores are reported; may be empty.
        id: Where the record comes from.
    """

    text: str
    doubt: tuple[tuple[int, int, float], ...] = ()
    kind: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Conditioned:
    """A prompt with its response, under a condition told in words.

    Attributes:
        condition: Task description, domain, persona, style or sentiment; empty for none.
        prompt: What the user says.
        response: What is answered.
        system: Instruction in the system turn, for example the answer options.
        task: Name under which scores are reported; may be empty.
        group: Second name under which scores are reported, for example `seen` or `unseen` for
            conditions that are in the training data or not; may be empty.
        id: Where the record comes from.
    """

    condition: str
    prompt: str
    response: str
    system: str = ""
    task: str = ""
    group: str = ""
    id: str = ""
