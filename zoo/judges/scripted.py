"""A judge that follows a function: for tests and trials without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zoo.judges.judge import Messages


class ScriptedJudge:
    """Answers by a function; it prefers no candidate.

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
