"""Conversations with a simulated seeker: how long they talk, and how much a reply says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zoo.records import SEEKER, SUPPORTER, Turn

Seeker = Callable[[tuple[Turn, ...]], str | None]
"""Given what was said so far: the seeker's next message, None to stop."""

Replier = Callable[[tuple[Turn, ...]], str]
"""Given what was said so far, a seeker turn last: the supporter's reply."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulated conversation.

    Attributes:
        turns: What was said.
        stopped: The seeker wished to stop, rather than reaching the limit of rounds.
    """

    turns: tuple[Turn, ...]
    stopped: bool

    @property
    def rounds(self) -> int:
        """Number of the seeker's messages that were replied to."""
        return sum(turn.speaker == SUPPORTER for turn in self.turns)


def simulate(
    seeker: Seeker, reply: Replier, *, opening: Sequence[Turn] = (), max_rounds: int = 10
) -> Simulation:
    """Let a seeker and a supporter talk until the seeker wishes to stop.

    Args:
        seeker: Who seeks support.
        reply: Who gives it.
        opening: Turns said before; a supporter turn last, or none. They count as no round.
        max_rounds: Give up after so many; unknown in the papers, chosen here.
    """
    turns = tuple(opening)
    said: tuple[Turn, ...] = ()
    for _ in range(max_rounds):
        message = seeker((*turns, *said))
        if message is None:
            return Simulation(said, stopped=True)
        said = (*said, Turn(SEEKER, message))
        said = (*said, Turn(SUPPORTER, reply((*turns, *said))))
    return Simulation(said, stopped=False)


def simulation_scores(simulations: Sequence[Simulation]) -> dict[str, float]:
    """Return the mean length of a reply in words, the mean rounds, and who stopped.

    Returns:
        `reply_length` (left out if nobody replied), `rounds`, `stopped` (share of conversations
        that the seeker ended; the others reached the limit).
    """
    replies = [t.text for s in simulations for t in s.turns if t.speaker == SUPPORTER]
    words = sum(len(text.split()) for text in replies)
    length = {"reply_length": words / len(replies)} if replies else {}
    number = max(1, len(simulations))
    return {
        **length,
        "rounds": sum(s.rounds for s in simulations) / number,
        "stopped": sum(s.stopped for s in simulations) / number,
    }
