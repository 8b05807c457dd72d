"""Rewards of strategies: imitation of the log, or the grades of a judge.

straQ*-imit gives +1 to the logged strategy and -1 to another one; straQ*-distill gives a judge's
grade from 0 to 5. Nothing is known of what follows a strategy that was not used; by default the
logged continuation stands in for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from zoo.prompts.decisions import Decision
from zoo.prompts.strategies import Labels

MAX_GRADE = 5.0
Grade = Callable[[Decision, str], float | None]


class Judged(NamedTuple):
    """A strategy in a state, with its reward.

    Attributes:
        action: Index of the strategy.
        reward: Immediate reward r.
        logged: The supporter used it.
    """

    action: int
    reward: float
    logged: bool


def others(decision: Decision, labels: Labels, count: int, seed: int) -> list[int]:
    """Return `count` different strategies that were not used, drawn anew for each decision.

    The draw depends on seed and decision alone, so that every process and run agrees.
    """
    logged = labels.names.index(decision.target.strategy)
    rest = [i for i in range(len(labels.names)) if i != logged]
    return random.Random(f"{seed}-{decision.id}").sample(rest, count)


def imitate(decision: Decision, labels: Labels, seed: int, negatives: int = 1) -> list[Judged]:
    """Return the logged strategy with reward 1 and `negatives` others with reward -1."""
    logged = labels.names.index(decision.target.strategy)
    drawn = others(decision, labels, negatives, seed)
    return [Judged(logged, 1.0, True), *(Judged(other, -1.0, False) for other in drawn)]


def graded(
    decision: Decision, labels: Labels, grade: Grade, alternatives: int, seed: int
) -> list[Judged]:
    """Return the judge's grades of the logged strategy and of some others; none where it has none.

    Args:
        decision: The state and what was done there.
        labels: The strategies.
        grade: The judge; None for no grade.
        alternatives: How many others to grade.
        seed: Seed of their draw.
    """
    logged = labels.names.index(decision.target.strategy)
    actions = [logged, *others(decision, labels, alternatives, seed)]
    grades = [(a, grade(decision, labels.names[a])) for a in actions]
    return [Judged(a, float(g), a == logged) for a, g in grades if g is not None]


def feedback(decision: Decision, strategy: str) -> float | None:
    """Return the seeker's next rating (1 to 5) of the logged strategy: a judge that needs no model.

    Other strategies have none, and neither have utterances after the last rating.
    """
    return decision.feedback if strategy == decision.target.strategy else None
