"""What a judge is, and how its answers are put together.

A judge may fail: it runs out of time, or its words hold no verdict. It is asked again, and if it
fails every time the sample is marked and counted, and the run goes on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, get_args
from urllib.error import URLError

from zoo.records import Turn
from zoo.support.decisions import Decision
from zoo.support.judge_prompts import Choice

T = TypeVar("T")
MAX_GRADE = 5.0
Result = Literal["win", "tie", "lose", "failed"]


class JudgeError(RuntimeError):
    """A judge's answer holds no verdict; `words` are what it said."""

    def __init__(self, message: str, words: str = "") -> None:
        super().__init__(message)
        self.words = words


FAILURES = (JudgeError, TimeoutError, ConnectionError, URLError)
"""What a judge may raise when it fails; a full disk or a missing model is no such failure."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which of two replies is better, and the judge's words; anything else is a `JudgeError`."""

    choice: Choice
    words: str = ""

    def __post_init__(self) -> None:
        if self.choice not in get_args(Choice):
            raise JudgeError(f"no verdict: {self.choice!r}", self.words)


@dataclass(frozen=True, slots=True)
class Grade:
    """How good a strategy or reply is, 0 to 5, and the judge's words; else a `JudgeError`."""

    value: float
    words: str = ""

    def __post_init__(self) -> None:
        number = isinstance(self.value, int | float) and math.isfinite(self.value)
        if not number or not 0 <= self.value <= MAX_GRADE:
            raise JudgeError(f"no grade from 0 to {MAX_GRADE:g}: {self.value!r}", self.words)


class Judge(Protocol):
    """Compares and grades what a supporter may do at a decision point.

    A candidate is a supporter turn; its text or its strategy may be empty. `attempt` counts the
    earlier failures on the same question, so that a deterministic judge can vary.
    """

    name: str

    def compare(self, decision: Decision, first: Turn, second: Turn, attempt: int = 0) -> Verdict:
        """Return which reply is better; raises `JudgeError`, `TimeoutError`, `ConnectionError`."""
        ...

    def grade(self, decision: Decision, candidate: Turn, attempt: int = 0) -> Grade:
        """Return a grade from 0 to 5; raises the same."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reply fared against another.

    Attributes:
        id: The decision point.
        result: Of the reply, after both orders.
        choices: The verdict with the reply as A, and the one with it as B; None for a failure.
        failures: Why each failed attempt failed.
    """

    id: str
    result: Result
    choices: tuple[Choice | None, Choice | None]
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Graded:
    """The grade of a candidate; None if the judge failed every time."""

    id: str
    value: float | None
    failures: tuple[str, ...] = ()


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


def both_orders(
    judge: Judge, decision: Decision, reply: Turn, other: Turn, *, retries: int = 2
) -> Outcome:
    """Compare a reply with another in both orders; a disagreement is a tie.

    Args:
        judge: Who compares.
        decision: Where the replies would be given.
        reply: Whose result is returned.
        other: What it is compared with.
        retries: How often to ask again after a failure, in each order.
    """
    ahead, why = persist(lambda n: judge.compare(decision, reply, other, n), retries)
    behind, why_2 = persist(lambda n: judge.compare(decision, other, reply, n), retries)
    failures = (*why, *why_2)
    if ahead is None or behind is None:
        choices = (ahead.choice if ahead else None, behind.choice if behind else None)
        return Outcome(decision.id, "failed", choices, failures)
    results: dict[tuple[Choice, Choice], Result] = {("A", "B"): "win", ("B", "A"): "lose"}
    result = results.get((ahead.choice, behind.choice), "tie")
    return Outcome(decision.id, result, (ahead.choice, behind.choice), failures)


def against_data(
    judge: Judge, replies: Iterable[tuple[Decision, Turn]], *, retries: int = 2
) -> list[Outcome]:
    """Compare replies with the dataset's own, `decision.target`, in both orders."""
    return [
        both_orders(judge, decision, reply, decision.target, retries=retries)
        for decision, reply in replies
    ]


def grade_all(
    judge: Judge, candidates: Iterable[tuple[Decision, Turn]], *, retries: int = 2
) -> list[Graded]:
    """Grade candidates, each at its decision point."""
    graded = []
    for decision, candidate in candidates:
        # bound now: the lambda is called before the next round
        found, why = persist(lambda n: judge.grade(decision, candidate, n), retries)  # noqa: B023
        graded.append(Graded(decision.id, found.value if found else None, tuple(why)))
    return graded


def win_rates(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return win, tie and lose in percent of what was judged, and the numbers behind them.

    Returns:
        `win, tie, lose` (left out if nothing was judged), `judged`, `failed` and `retried` (samples
        with a failed attempt that were judged in the end).
    """
    counts = Counter(outcome.result for outcome in outcomes)
    judged = len(outcomes) - counts["failed"]
    kinds: tuple[Result, ...] = ("win", "tie", "lose")
    rates: dict[str, float] = {k: 100 * counts[k] / judged for k in kinds} if judged else {}
    retried = sum(bool(o.failures) for o in outcomes) - counts["failed"]
    return {**rates, "judged": judged, "failed": counts["failed"], "retried": retried}
