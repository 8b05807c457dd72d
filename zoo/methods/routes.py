"""Dialogues along which FiSMiness' machine is walked, and where it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.prompts.decisions import Decision
from zoo.prompts.fisminess import WalkEncoder
from zoo.prompts.machine import Machine, Round, rounds

Key = tuple[Any, ...]


@dataclass
class Row:
    """A dialogue, and the states that are asked for along it.

    Attributes:
        last: The state with the most turns.
        opening: What the supporter said before all else.
        rounds: Its turns, the current one last.
        wanted: Number of a round -> indices of the states that end there.
        machine: Where the dialogue stands.
    """

    last: Decision
    opening: str
    rounds: list[Round]
    wanted: dict[int, list[int]] = field(default_factory=dict)
    machine: Machine = field(default_factory=Machine)

    def key(self, k: int) -> Key:
        """Return what names the state of a round."""
        said = tuple((one.message, one.strategy, one.reply) for one in self.rounds[:k])
        return self.last.dialogue, self.last.situation, said, self.rounds[k].message


def dialogues(states: Sequence[Decision], encoder: WalkEncoder) -> list[Row]:
    """Return a row for each dialogue among some states: states of one dialogue share it."""
    rows: list[Row] = []
    for index in sorted(range(len(states)), key=lambda i: -len(states[i].turns)):
        state = states[index]
        row = next((one for one in rows if begins(one.last, state)), None)
        if row is None:
            row = Row(state, rounds(state)[0], encoder.rounds(state))
            rows.append(row)
        row.wanted.setdefault(len(rounds(state)[1]) - 1, []).append(index)
    return rows


def begins(longer: Decision, state: Decision) -> bool:
    """Return whether a dialogue passes a state."""
    same = (longer.dialogue, longer.situation, longer.problem)
    if same != (state.dialogue, state.situation, state.problem):
        return False
    return longer.turns[: len(state.turns)] == state.turns
