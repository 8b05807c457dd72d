"""What a judge of emotional support is asked: which of two replies is better, how good one is.

A candidate is a supporter turn; its text or its strategy may be empty. Two replies are compared in
both orders, and a disagreement is a tie. A sample that a judge fails on every time is marked and
counted, and the run goes on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from zoo.errors import InputError
from zoo.judges.judge import Judge, JudgeError, Messages, persist
from zoo.judges.recorded import RecordedAnswers
from zoo.records import Turn
from zoo.support.decisions import Decision, description, transcript
from zoo.support.judge_prompts import Choice, comparison, grading, read_choice, read_grade
from zoo.support.labels import SUPPORT, Labels

MAX_GRADE = 5.0
Result = Literal["win", "tie", "lose", "failed"]


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


class SupportJudge:
    """Compares and grades what a supporter may do at a decision point.

    Args:
        judge: Whom to ask; None reads the file alone.
        labels: Names and definitions of the strategies.
        forced: If the judge's words hold no verdict, take the most likely one after them, and as
            grade the mean of 0 to 5 under its probabilities. Small models rarely end in brackets
            by themselves; chosen here.
        file: Answers are read from here, and added where there is a judge; None keeps none.

    Raises:
        InputError: There is neither judge nor file, or the file is refused (see
            `zoo.judges.recorded.RecordedAnswers`).
    """

    def __init__(
        self,
        judge: Judge | None = None,
        labels: Labels = SUPPORT,
        *,
        forced: bool = False,
        file: str | Path | None = None,
    ) -> None:
        if judge is None and file is None:
            raise InputError("SupportJudge: give a judge, a file of recorded answers, or both")
        self.judge, self.labels, self.forced = judge, labels, forced
        self.name = f"{judge.name}{'-forced' if forced else ''}" if judge else None
        self.answers = RecordedAnswers(file, self.name, read_line) if file else None

    def compare(self, decision: Decision, first: Turn, second: Turn, attempt: int = 0) -> Verdict:
        """Return which reply is better.

        Args:
            decision: Where the replies would be given.
            first: Reply A.
            second: Reply B.
            attempt: Earlier failures on this question; the seed of another answer than the first.

        Raises:
            JudgeError: There is no verdict, or the replies do not fit into the judge's window.
            TimeoutError: It takes too long.
            ConnectionError: The judge is out of reach.
        """

        def ask() -> dict[str, Any]:
            words, shares = self._ask(decision, lambda d: comparison(d, first, second), attempt)
            choice = read_choice(words)
            if choice is None and self.forced:
                odds = shares("ABC")
                choice = read_choice(f"[[{'ABC'[odds.index(max(odds))]}]]")
            if choice is None:
                raise JudgeError(f"{decision.id}: no [[A]], [[B]] or [[C]] in the answer", words)
            return {"choice": choice, "words": words}

        line = self._answer("compare", decision, (first, second), ask)
        return Verdict(line["choice"], line["words"])

    def grade(self, decision: Decision, candidate: Turn, attempt: int = 0) -> Grade:
        """Return a grade from 0 to 5; the rest is as for `compare`."""

        def ask() -> dict[str, Any]:
            words, shares = self._ask(
                decision, lambda d: grading(d, candidate, self.labels), attempt
            )
            value = read_grade(words)
            if value is None and self.forced:
                value = sum(grade * share for grade, share in enumerate(shares("012345")))
            if value is None:
                raise JudgeError(f"{decision.id}: no grade from 0 to 5 in the answer", words)
            return {"grade": value, "words": words}

        line = self._answer("grade", decision, (candidate,), ask)
        return Grade(line["grade"], line["words"])

    def _ask(
        self, decision: Decision, prompt: Callable[[Decision], Messages], attempt: int
    ) -> tuple[str, Callable[[str], list[float]]]:
        """Return the judge's words, and what gives the shares of letters in brackets after them.

        The oldest turns are left out of the prompt where all do not fit into the window.
        """
        judge = cast(Judge, self.judge)  # without one the file has answered
        while decision.turns and not judge.fits(prompt(decision)):
            decision = replace(decision, turns=decision.turns[1:])
        messages = prompt(decision)
        words = judge.write(messages, seed=attempt or None)
        return words, lambda letters: judge.score(messages, letters, begun=f"{words}\n[[")

    def _answer(
        self,
        kind: str,
        decision: Decision,
        candidates: Sequence[Turn],
        ask: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """Return the answer on file, or ask for one."""
        if self.answers is None:
            return ask()
        seen = [kind, description(decision), transcript(decision.turns)]
        seen += [part for turn in candidates for part in (turn.strategy, turn.text)]
        key = hashlib.sha256(json.dumps(seen).encode()).hexdigest()
        return self.answers.answer(kind, decision.id, key, ask)


def read_line(line: dict[str, Any]) -> Verdict | Grade:
    """Return what a line of a file of answers records.

    Raises:
        KeyError: It lacks a field, or its kind is unknown.
        JudgeError: Its value is none.
    """
    kinds: dict[str, Callable[[], Verdict | Grade]] = {
        "compare": lambda: Verdict(line["choice"], line["words"]),
        "grade": lambda: Grade(line["grade"], line["words"]),
    }
    return kinds[line["kind"]]()


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


def both_orders(
    judge: SupportJudge, decision: Decision, reply: Turn, other: Turn, *, retries: int = 2
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
    judge: SupportJudge, replies: Iterable[tuple[Decision, Turn]], *, retries: int = 2
) -> list[Outcome]:
    """Compare replies with the dataset's own, `decision.target`, in both orders."""
    return [
        both_orders(judge, decision, reply, decision.target, retries=retries)
        for decision, reply in replies
    ]


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
