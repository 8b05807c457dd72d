"""Grades of strategies, 0 to 5: by the seeker's own ratings, by a file, or by a model."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from zoo.backbone import Backbone
from zoo.judges.judge import Grade, Judge, JudgeError, Verdict, persist
from zoo.judges.local import LocalJudge, LocalLLM
from zoo.judges.recorded import RecordedJudge
from zoo.judges.scripted import ScriptedJudge
from zoo.methods.straq.rewards import Judged, candidates
from zoo.records import SUPPORTER, Turn
from zoo.support.decisions import Decision
from zoo.support.labels import SUPPORT, Labels

log = logging.getLogger(__name__)
FEEDBACK = "feedback"


class Distilled:
    """Grades as rewards: of the logged strategy and of some others.

    What a judge does not grade is left out, and a decision without any grade is not learned from.

    Args:
        opened: Returns who grades; called at the first grade.
        labels: The strategies.
        alternatives: Strategies to grade beside the logged one.
        seed: Seed of their draw.
        scale: Factor of a grade.
    """

    splits: tuple[str, ...] = ("train", "val")  # grades cost something: nothing else is graded

    def __init__(
        self,
        opened: Callable[[], Judge],
        labels: Labels,
        alternatives: int = 1,
        seed: int = 0,
        scale: float = 1.0,
    ) -> None:
        self.opened, self.labels = opened, labels
        self.alternatives, self.seed, self.scale = alternatives, seed, scale
        self.asked, self.failures = 0, list[str]()
        self._judge: Judge | None = None

    def __call__(self, decision: Decision) -> list[Judged]:
        """Return the strategies of a state that have a grade."""
        if self._judge is None:
            self._judge = self.opened()
        found = []
        drawn = candidates(decision, self.labels, self.alternatives, self.seed)
        for place, action in enumerate(drawn):
            value, why = grade_strategy(self._judge, decision, self.labels.names[action])
            self.asked += 1
            if value is None:
                self.failures.append(why)
            else:
                found.append(Judged(action, value * self.scale, place == 0))
        return found

    def report(self) -> str:
        """Return how many grades were missing since the last report, and why the last one."""
        asked, failures, self.asked, self.failures = self.asked, self.failures, 0, []
        return f"{len(failures)} of {asked} have no grade ({failures[-1]})" if failures else ""


def open_judge(
    grades: str, judge: Judge | Backbone | None = None, labels: Labels = SUPPORT
) -> Judge:
    """Return a judge of strategies.

    Args:
        grades: `feedback`, or a file of recorded grades.
        judge: Whom to ask for grades that the file does not have: a model, which is loaded for the
            first of them, or any other judge. None replays the file only.
        labels: Names and definitions of the strategies.

    Raises:
        InputError: There is no such file and no model, or it holds something else.
    """
    if grades == FEEDBACK:
        own = ScriptedJudge(_feedback, name=FEEDBACK)
        return own if judge is None or isinstance(judge, Backbone) else judge
    return RecordedJudge(grades, LazyJudge(judge, labels) if isinstance(judge, Backbone) else judge)


def grade_strategy(judge: Judge, decision: Decision, strategy: str) -> tuple[float | None, str]:
    """Return the grade of a strategy, without a text, at a decision; None and why if it fails."""
    candidate = Turn(SUPPORTER, "", strategy=strategy)
    grade, why = persist(lambda attempt: judge.grade(decision, candidate, attempt), retries=2)
    return (None, why[-1]) if grade is None else (grade.value, "")


class LazyJudge:
    """A local model that judges; loaded at its first question.

    Args:
        backbone: The model.
        labels: Names and definitions of the strategies.
    """

    def __init__(self, backbone: Backbone, labels: Labels = SUPPORT) -> None:
        self.backbone, self.labels, self.name = backbone, labels, backbone.name
        self._judge: LocalJudge | None = None

    def compare(self, decision: Decision, first: Turn, second: Turn, attempt: int = 0) -> Verdict:
        """Return the model's verdict; see `LocalJudge`."""
        return self._loaded().compare(decision, first, second, attempt)

    def grade(self, decision: Decision, candidate: Turn, attempt: int = 0) -> Grade:
        """Return the model's grade; see `LocalJudge`."""
        return self._loaded().grade(decision, candidate, attempt)

    def _loaded(self) -> LocalJudge:
        if self._judge is None:
            log.warning("judge: asking %s (once; its answers are kept on file)", self.name)
            device = "cuda" if torch.cuda.is_available() else "cpu"
            self._judge = LocalJudge(LocalLLM.load(self.backbone, device=device), self.labels)
        return self._judge


def _feedback(decision: Decision, candidate: Turn) -> float:
    """Return the seeker's next rating, 1 to 5, of the strategy that the supporter used."""
    if candidate.strategy != decision.target.strategy or decision.feedback is None:
        raise JudgeError(f"{decision.id}: the seeker has not rated {candidate.strategy}")
    return float(decision.feedback)
