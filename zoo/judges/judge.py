"""What a judge is: messages in, words out, or scores of candidates.

A judge may fail: it runs out of time, or its words hold no answer. It is asked again, and if it
fails every time the caller marks and counts the sample, and the run goes on. What to ask and how
to read the words is the caller's (`zoo.support.judging` for replies of emotional support).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar
from urllib.error import URLError

T = TypeVar("T")
Messages = Sequence[tuple[str, str]]
"""(role, text) of each message of a chat, the system message first."""


class JudgeError(RuntimeError):
    """A judge has no answer, or its words hold none; `words` are what it said."""

    def __init__(self, message: str, words: str = "") -> None:
        super().__init__(message)
        self.words = words


FAILURES = (JudgeError, TimeoutError, ConnectionError, URLError)
"""What a judge may raise when it fails; a full disk or a missing model is no such failure."""


class Judge(Protocol):
    """Answers messages in words and scores candidates; `name` tells judges apart on file."""

    name: str

    def fits(self, messages: Messages) -> bool:
        """Return whether messages leave room for the answer."""
        ...

    def write(self, messages: Messages, seed: int | None = None) -> str:
        """Return the answer; a seed asks for another one than the first.

        Raises:
            JudgeError: There is no answer.
            TimeoutError: It takes too long.
            ConnectionError: The judge is out of reach.
        """
        ...

    def score(self, messages: Messages, candidates: Sequence[str], begun: str = "") -> list[float]:
        """Return the probability of each candidate to come next, among the candidates.

        Args:
            messages: What is asked.
            candidates: How the answer may go on.
            begun: What the judge has answered so far.
        """
        ...


class ScriptedJudge:
    """A judge that answers by a function, a rule or known answers; it prefers no candidate.

    Args:
        answer: Returns the words for the text of the last message; may raise as a judge may.
        name: Name of the judge.
    """

    def __init__(self, answer: Callable[[str], str], name: str = "scripted") -> None:
        self.answer, self.name = answer, name

    def fits(self, messages: Messages) -> bool:
        """Return that every message can be read."""
        return True

    def write(self, messages: Messages, seed: int | None = None) -> str:
        """Return the scripted words."""
        return self.answer(messages[-1][1])

    def score(self, messages: Messages, candidates: Sequence[str], begun: str = "") -> list[float]:
        """Return the same share for every candidate."""
        return [1 / len(candidates)] * len(candidates)


def persist(ask: Callable[[int], T], retries: int) -> tuple[T | None, list[str]]:
    """Ask until there is an answer; return it, or None, and why each failed attempt failed.

    Args:
        ask: Asks, given the number of failures so far.
        retries: How often to ask again.
    """
    failures: list[str] = []
    for attempt in range(retries + 1):
        try:
            return ask(attempt), failures
        except FAILURES as error:
            failures.append(f"{type(error).__name__}: {error}")
    return None, failures
