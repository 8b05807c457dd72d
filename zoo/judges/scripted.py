"""A judge that follows a function or a table: for tests, and for ratings that data brings along."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zoo.judges.judge import Grade, JudgeError, Verdict
from zoo.records import Turn
from zoo.support.decisions import Decision
from zoo.support.judge_prompts import Choice

Grader = Callable[[Decision, Turn], float] | Mapping[str, float]
Chooser = Callable[[Decision, Turn, Turn], Choice]


class ScriptedJudge:
    """Grades by a function or a table; compares by a function, or by the grades.

    Args:
        grade: Function of the decision and the candidate, or grade by the candidate's text.
        compare: Function of the decision and both replies; None prefers the higher grade.
        name: Name of the judge.
    """

    def __init__(
        self, grade: Grader | None = None, compare: Chooser | None = None, name: str = "scripted"
    ) -> None:
        self.grader, self.chooser, self.name = {} if grade is None else grade, compare, name

    def compare(self, decision: Decision, first: Turn, second: Turn, attempt: int = 0) -> Verdict:
        """Return the scripted verdict.

        Raises:
            JudgeError: A reply is not in the table.
        """
        if self.chooser is not None:
            return Verdict(self.chooser(decision, first, second))
        a, b = (self.grade(decision, reply).value for reply in (first, second))
        return Verdict("tie" if a == b else "A" if a > b else "B")

    def grade(self, decision: Decision, candidate: Turn, attempt: int = 0) -> Grade:
        """Return the scripted grade.

        Raises:
            JudgeError: The candidate is not in the table.
        """
        if not isinstance(self.grader, Mapping):
            return Grade(self.grader(decision, candidate))
        if candidate.text not in self.grader:
            raise JudgeError(f"{decision.id}: no scripted grade of {candidate.text!r}")
        return Grade(self.grader[candidate.text])
