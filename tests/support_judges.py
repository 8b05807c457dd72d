"""Judges of support replies for tests, and what they read in the text that they are asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from zoo.judges.judge import Messages, persist
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import Decision, decisions
from zoo.support.judging import SupportJudge


def points(count: int = 3) -> list[tuple[Decision, Turn]]:
    """Return decision points of different dialogues, each with a reply to judge."""
    pairs = []
    for i in range(count):
        turns = (Turn(SEEKER, f"I worry about {i}."), Turn(SUPPORTER, f"gold {i}", "Question"))
        (decision,) = decisions(Dialogue(turns, "anxiety", "exams", f"Exam {i}.", id=f"d{i}"))
        pairs.append((decision, Turn(SUPPORTER, f"reply {i}", "Others")))
    return pairs


def replies(asked: str) -> tuple[str, str]:
    """Return the texts of replies A and B; empty ones where a grade is asked for."""
    found = re.search(r"Reply A[^\n]*:\n(.*)\n\nReply B[^\n]*:\n(.*)\n\nWhich", asked, re.DOTALL)
    return (found[1], found[2]) if found else ("", "")


def strategy(asked: str) -> str:
    """Return the strategy that a grade is asked for."""
    return re.search(r"next strategy: ([^(\n]+?)(?: \(|\n)", asked)[1]


def by_length(asked: str) -> str:
    """Prefer the longer reply, B of two equal ones; grade everything 4."""
    first, second = replies(asked)
    return "[[A]] [[4]]" if len(first) > len(second) else "[[B]] [[4]]"


class Flaky:
    """Fails a number of times on each question, then prefers the longer reply."""

    name = "flaky"

    def __init__(self, failures: int, error: Callable[[], Exception]) -> None:
        self.failures, self.error, self.attempts = failures, error, []

    def fits(self, messages: Messages) -> bool:
        return True

    def write(self, messages: Messages, seed: int | None = None) -> str:
        self.attempts.append(seed or 0)
        if (seed or 0) < self.failures:
            raise self.error()
        return by_length(messages[-1][1])

    def score(self, messages: Messages, candidates: Sequence[str], begun: str = "") -> list[float]:
        raise AssertionError


def grades(
    judge: SupportJudge, pairs: Iterable[tuple[Decision, Turn]], retries: int
) -> list[tuple[float | None, list[str]]]:
    """Return the grade of each reply, None for a failure, and why attempts failed."""
    graded = []
    for decision, reply in pairs:
        grade, why = persist(lambda n, d=decision, r=reply: judge.grade(d, r, n), retries)
        graded.append((grade and grade.value, why))
    return graded
