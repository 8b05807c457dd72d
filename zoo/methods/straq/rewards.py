"""Rewards of strategies: imitation of the log, or grades.

straQ*-imit gives +1 to the logged strategy and -1 to another one; straQ*-distill gives a judge's
grade from 0 to 5 (`zoo/methods/straq/grading.py`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from zoo.support.decisions import Decision
from zoo.support.labels import Labels


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


class Reward(Protocol):
    """Rewards of the strategies of a decision."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits whose decisions are rewarded."""
        ...

    def __call__(self, decision: Decision) -> Sequence[Judged]:
        """Return the judged strategies of a state; none where there is nothing to learn."""
        ...

    def report(self) -> str:
        """Return what was missing since the last report, and why; empty for nothing."""
        ...


@dataclass(frozen=True)
class Imitated:
    """The logged strategy with reward 1, and some others with reward -1.

    Attributes:
        labels: The strategies.
        negatives: How many others.
        seed: Seed of their draw.
    """

    labels: Labels
    negatives: int = 1
    seed: int = 0
    splits: tuple[str, ...] = ("train", "val", "test")

    def report(self) -> str:
        """Return that nothing is missing."""
        return ""

    def __call__(self, decision: Decision) -> list[Judged]:
        """Return the strategies that count in a state."""
        logged, *rest = candidates(decision, self.labels, self.negatives, self.seed)
        return [Judged(logged, 1.0, True), *(Judged(other, -1.0, False) for other in rest)]


def candidates(decision: Decision, labels: Labels, count: int, seed: int) -> list[int]:
    """Return the logged strategy and `count` others, drawn anew for each decision.

    The draw depends on seed and decision alone, so that every process and run agrees.
    """
    logged = labels.names.index(decision.target.strategy)
    rest = [i for i in range(len(labels.names)) if i != logged]
    return [logged, *random.Random(f"{seed}-{decision.id}").sample(rest, count)]
