"""What was lived through in the environment: turns that the world model learns from again."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from zoo.records import Turn
from zoo.support.decisions import Decision


@dataclass(frozen=True, slots=True)
class Experience:
    """One turn with a user.

    Attributes:
        decision: The state, with the reply as its target.
        reward: r_t; None where nobody rated.
        following: The state after the user's answer; None where the dialogue ended.
    """

    decision: Decision
    reward: float | None
    following: Decision | None


@dataclass
class Replay:
    """All experiences of a run, in order, and what is not yet part of a finished step.

    Attributes:
        kept: Experiences of finished steps.
        opened: Dialogues that were opened in finished steps.
        fresh: Experiences of the step that is running.
        fresh_opened: Dialogues that it opened.
    """

    kept: list[Experience] = field(default_factory=list)
    opened: int = 0
    fresh: list[Experience] = field(default_factory=list)
    fresh_opened: int = 0

    def commit(self) -> None:
        """Keep what a step has lived through; called at its end."""
        self.kept += self.fresh
        self.opened += self.fresh_opened
        self.fresh, self.fresh_opened = [], 0

    def sample(self, count: int, seed: str) -> list[Experience]:
        """Return some of the experiences, other ones for each seed."""
        return random.Random(seed).sample(self.kept, min(count, len(self.kept)))

    def state(self) -> dict[str, Any]:
        """Return plain values for a checkpoint, of finished steps alone."""
        return {"kept": [asdict(each) for each in self.kept], "opened": self.opened}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take what `state` returned."""
        self.kept = [
            Experience(_decision(row["decision"]), row["reward"], _decision(row["following"]))  # type: ignore[arg-type]
            for row in state["kept"]
        ]
        self.opened, self.fresh, self.fresh_opened = state["opened"], [], 0


def _decision(row: Mapping[str, Any] | None) -> Decision | None:
    if row is None:
        return None
    turns: Sequence[Mapping[str, Any]] = row["turns"]
    fields = {**row, "turns": tuple(Turn(**t) for t in turns), "target": Turn(**row["target"])}
    return Decision(**fields)
