"""Wording by which a model is asked how sure it is of an answer, and the encoder that teaches it.

Three ways to ask, each a user turn after the answer: yes or no (P(True)), a number, and sure or
unsure (R-Tuning's question).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zoo.encoding import NO_HEAD, Example, Segment, join
from zoo.errors import InputError, TooLongError
from zoo.methods.lamss.questions import Askable, check, follow_up, gold, letters, opening
from zoo.prompts.base import PromptEncoder
from zoo.records import PlainText, Question, Triple

ANSWER, SURE, TEXT = 0, 1, 2  # what is learned, all by the one head
QUESTIONS = {
    "p_true": "Is this answer right? Say yes or no.",
    "verbalised": "How sure are you that this answer is right? Say a number from 0 to 100.",
    "sure": "Are you sure you answered the question accurately, from what you know yourself?",
}
REACTIONS = {"p_true": ("", "Yes", "No"), "sure": ("I am", " sure.", " unsure.")}
"""Start of the reply, and how it goes on without and with doubt."""
NUMBER = re.compile(r"\d+(?:\.\d+)?")
NUMBER_TOKENS = 8  # limit of a reply that says a number


@dataclass
class ConfidenceEncoder(PromptEncoder):
    """Encoder of answers, of the sure or unsure after them, and of plain text.

    With `sure` among the ways to ask, an example ends with that question and the one token that
    decides. Which of the two it is, is known once the model has answered; until then the token of
    `sure` stands there.

    Attributes:
        asks: The ways (of `QUESTIONS`) in which the model is asked about its answers.
        max_new_tokens: Limit of an answer.
    """

    needs_records: ClassVar[bool] = True  # of R-Tuning: which answers were right
    records: ClassVar[tuple[type, ...]] = (Question, Triple, PlainText)

    asks: tuple[str, ...] = ()
    max_new_tokens: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        asked = (len(self._question(name)) for name in self.asks)
        self.room = self.max_new_tokens + max(asked, default=0) + NUMBER_TOKENS

    def __call__(self, record: Askable | PlainText) -> list[Example]:
        """Return the example of a record.

        Raises:
            InputError: Question, answer or text is empty, or does not fit into the window.
        """
        if isinstance(record, PlainText):
            if not record.text.strip():
                raise InputError(f"{record.id or 'text'}: the text is empty")
            parts = [Segment(record.text, "text", TEXT)]
            return [self.encode(parts, record)]
        check(record)
        answer = self.ids(gold(record) + self.chat.close("assistant"))
        pieces = [(self.prompt(record), NO_HEAD, 0.0), (answer, ANSWER, 1.0)]
        if "sure" in self.asks:
            start, sure, _ = self.reaction("sure")
            pieces += [(self._question("sure") + start, NO_HEAD, 0.0), ([sure], SURE, 1.0)]
        return [join(pieces, record=record)]

    def prompt(self, record: Askable) -> list[int]:
        """Return the ids up to where the answer begins.

        Raises:
            TooLongError: The window leaves no room for the answer and a question about it.
        """
        ids = self.segment_ids(opening(self.chat, record)) + self._open()
        room = max(self.room, len(self.ids(gold(record))) + self.room - self.max_new_tokens)
        if len(ids) + room > self.max_length:
            raise TooLongError(
                f"{record.id or 'question'}: {len(ids)} tokens, and {room} for the answer and what "
                f"is asked about it, are more than the window max_length={self.max_length}"
            )
        return ids

    def after(self, record: Askable, answer: str, name: str) -> list[int]:
        """Return the ids up to the reply to a question about an answer."""
        segments = follow_up(self.chat, record, answer, QUESTIONS[name])
        return self.segment_ids(segments) + self._open()

    def reaction(self, name: str) -> tuple[list[int], int, int]:
        """Return how a reply begins, and the tokens that decide: without doubt, with doubt."""
        start, calm, doubtful = REACTIONS[name]
        common, calm_token, doubtful_token = fork(self.ids(calm), self.ids(doubtful))
        return self.ids(start) + common, calm_token, doubtful_token

    def choices(self, record: Askable) -> list[list[int]] | None:
        """Return the ids of each letter; None for an open question."""
        listed = letters(record)
        return None if listed is None else [self.ids(name) for name in listed]

    def _open(self) -> list[int]:
        return self.ids(self.chat.open("assistant"))

    def _question(self, name: str) -> list[int]:
        """Return the ids from the answer's end-of-turn to the reply about it."""
        return self.segment_ids(self.chat.turn("user", QUESTIONS[name])) + self._open()


def fork(one: Sequence[int], other: Sequence[int]) -> tuple[list[int], int, int]:
    """Return what two sequences begin with alike, and the token of each where they part.

    Raises:
        ValueError: One of them is the beginning of the other.

    Example:
        >>> fork([7, 1, 2], [7, 3])
        ([7], 1, 3)
    """
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return list(one[:i]), a, b
    raise ValueError(f"{list(one)} and {list(other)} do not part")


def number_said(text: str) -> float | None:
    """Return the confidence in [0, 1] that a reply states, None if it states none.

    The first number of the reply, in percent; with a decimal point and at most 1 it is a share.

    Example:
        >>> number_said("I am 85% sure."), number_said("0.5"), number_said("very")
        (0.85, 0.5, None)
    """
    match = NUMBER.search(text)
    if match is None:
        return None
    value = float(match[0])
    share = value if "." in match[0] and value <= 1 else value / 100
    return share if share <= 1 else None
