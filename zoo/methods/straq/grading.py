"""Grades of strategies, 0 to 5: by the seeker's own ratings, by a file, or by a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property, partial

import torch

from zoo.backbone import Backbone
from zoo.judges.judge import JudgeError, Messages, persist
from zoo.judges.local import LocalLLM
from zoo.methods.straq.rewards import Judged, candidates
from zoo.records import SUPPORTER, Turn
from zoo.support.decisions import Decision
from zoo.support.judging import Grade, SupportJudge
from zoo.support.labels import SUPPORT, Labels

log = logging.getLogger(__name__)
FEEDBACK = "feedback"
NO_RATINGS = (
    "seekers' ratings stand in the authors' ESConv.json, not in train.txt, valid.txt and test.txt; "
    "else name a file of grades: model.grades: grades.jsonl"
)
Grader = Callable[[Decision, Turn, int], Grade]
"""Grades a candidate at a decision, given how often it failed; raises as a judge does."""


class Distilled:
    """Grades as rewards: of the logged strategy and of some others.

    What a judge does not grade is left out, and a decision without any grade is not learned from.

    Args:
        open_grader: Returns what grades; called at the first grade.
        labels: The strategies.
        alternatives: Strategies to grade beside the logged one.
        seed: Seed of their draw.
        scale: Factor of a grade.
    """

    splits: tuple[str, ...] = ("train", "val")  # grades cost something: nothing else is graded

    def __init__(
        self,
        open_grader: Callable[[], Grader],
        labels: Labels,
        alternatives: int = 1,
        seed: int = 0,
        scale: float = 1.0,
    ) -> None:
        self.open_grader, self.labels = open_grader, labels
        self.alternatives, self.seed, self.scale = alternatives, seed, scale
        self.asked, self.failures = 0, list[str]()
        self._grader: Grader | None = None

    def __call__(self, decision: Decision) -> list[Judged]:
        """Return the strategies of a state that have a grade."""
        grader = self._grader = self._grader or self.open_grader()
        judged = []
        drawn = candidates(decision, self.labels, self.alternatives, self.seed)
        for place, action in enumerate(drawn):
            strategy = Turn(SUPPORTER, "", strategy=self.labels.names[action])  # without a text
            grade, why = persist(partial(grader, decision, strategy), retries=2)
            self.asked += 1
            if grade is None:
                self.failures.append(why[-1])
            else:
                judged.append(Judged(action, grade.value * self.scale, place == 0))
        return judged

    def report(self) -> str:
        """Return how many grades were missing since the last report, and why the last one."""
        asked, failures, self.asked, self.failures = self.asked, self.failures, 0, []
        if not failures:
            return ""
        hint = f"; {NO_RATINGS}" if self._grader is seeker_rating and len(failures) == asked else ""
        return f"{len(failures)} of {asked} have no grade ({failures[-1]}){hint}"


def open_grader(
    grades: str, judge: SupportJudge | Backbone | None = None, labels: Labels = SUPPORT
) -> Grader:
    """Return what grades a strategy at a decision, given the failures so far.

    Args:
        grades: `feedback`, or a file of recorded grades.
        judge: Whom to ask for grades that the file does not have: a model, which is loaded for the
            first of them, or any other judge. None replays the file only.
        labels: Names and definitions of the strategies.

    Raises:
        InputError: There is no such file and no model, or it holds something else.
    """
    if grades == FEEDBACK:
        return judge.grade if isinstance(judge, SupportJudge) else seeker_rating
    if isinstance(judge, SupportJudge):
        return SupportJudge(judge.judge, judge.labels, forced=judge.forced, file=grades).grade
    return SupportJudge(LazyLLM(judge) if judge else None, labels, file=grades).grade


def seeker_rating(decision: Decision, candidate: Turn, attempt: int) -> Grade:
    """Return the seeker's next rating, 1 to 5, of the strategy that the supporter used."""
    if candidate.strategy != decision.target.strategy or decision.feedback is None:
        raise JudgeError(f"{decision.id}: the seeker has not rated {candidate.strategy}")
    return Grade(float(decision.feedback))


class LazyLLM:
    """A local model that is loaded at its first question.

    Args:
        backbone: The model.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone, self.name = backbone, backbone.name

    @cached_property
    def llm(self) -> LocalLLM:
        """The model, loaded."""
        log.warning("judge: asking %s (once; its answers are kept on file)", self.name)
        return LocalLLM.load(self.backbone, device="cuda" if torch.cuda.is_available() else "cpu")

    def fits(self, messages: Messages) -> bool:
        """Return whether messages leave room for the answer."""
        return self.llm.fits(messages)

    def write(self, messages: Messages, seed: int | None = None) -> str:
        """Return the model's answer."""
        return self.llm.write(messages, seed)

    def score(self, messages: Messages, candidates: Sequence[str], begun: str = "") -> list[float]:
        """Return the model's shares of candidates."""
        return self.llm.score(messages, candidates, begun)
