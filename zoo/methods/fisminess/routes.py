"""Dialogues along which FiSMiness' machine is walked, and where it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.methods.fisminess.encoder import WalkEncoder
from zoo.methods.fisminess.machine import Machine, Round, rounds
from zoo.records import SUPPORTER
from zoo.support.decisions import Decision

StateKey = tuple[Any, ...]


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

    def key(self, k: int) -> StateKey:
        """Return what names the state of a round."""
        said = tuple((one.message, one.strategy, one.reply) for one in self.rounds[:k])
        told = self.last.dialogue, self.last.problem, self.last.situation, self.opening
        return *told, said, self.rounds[k].message


def dialogues(
    states: Sequence[Decision], encoder: WalkEncoder, *, apart: bool = False
) -> list[Row]:
    """Return a row for each dialogue among some states: states of one dialogue share it.

    Args:
        states: What is asked for.
        encoder: Reads their turns.
        apart: A row for each state.
    """
    rows: list[Row] = []
    for index in sorted(range(len(states)), key=lambda i: -len(states[i].turns)):
        state = states[index]
        row = next((one for one in rows if begins(one.last, state)), None) if not apart else None
        if row is None:
            row = Row(state, rounds(state)[0], encoder.rounds(state))
            rows.append(row)
        row.wanted.setdefault(len(rounds(state)[1]) - 1, []).append(index)
    return rows


def begins(longer: Decision, state: Decision) -> bool:
    """Return whether a dialogue passes a state, and the supporter then says what is said there."""
    same = (longer.dialogue, longer.situation, longer.problem)
    count = len(state.turns)
    if same != (state.dialogue, state.situation, state.problem):
        return False
    after = (*longer.turns, longer.target)[count]
    answered = after.speaker == SUPPORTER and state.target.text in ("", after.text)
    return answered and longer.turns[:count] == state.turns
