"""Conversations with a simulated seeker: how long they talk, and how much a reply says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from zoo.judges.judge import persist
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
        failure: Why it broke off; empty if it did not.
    """

    turns: tuple[Turn, ...]
    stopped: bool
    failure: str = ""

    @property
    def rounds(self) -> int:
        """Number of the seeker's messages that were replied to."""
        return sum(turn.speaker == SUPPORTER for turn in self.turns)


def simulate(
    seeker: Seeker,
    reply: Replier,
    *,
    opening: Sequence[Turn] = (),
    max_rounds: int = 10,
    retries: int = 2,
) -> Simulation:
    """Let a seeker and a supporter talk until the seeker wishes to stop.

    Where one of them fails for good (a lost connection, no answer in time), what was said is kept.

    Args:
        seeker: Who seeks support.
        reply: Who gives it.
        opening: Turns said before; a supporter turn last, or none. They count as no round.
        max_rounds: Give up after so many; unknown in the papers, chosen here.
        retries: How often to ask again after a failure.
    """
    said: tuple[Turn, ...] = ()
    for _ in range(max_rounds):
        for speaker, speak in ((SEEKER, seeker), (SUPPORTER, reply)):
            answer, why = persist(partial(_answer, speak, (*opening, *said)), retries)
            if answer is None:
                return Simulation(said, stopped=False, failure=f"{speaker}: {why[-1]}")
            if answer[0] is None:
                return Simulation(said, stopped=True)
            said = (*said, Turn(speaker, answer[0]))
    return Simulation(said, stopped=False)


def _answer(speak: Seeker | Replier, turns: tuple[Turn, ...], attempt: int) -> tuple[str | None]:
    """Return what is said next, in a tuple: to say nothing is an answer too."""
    return (speak(turns),)


def simulation_scores(simulations: Sequence[Simulation]) -> dict[str, float]:
    """Return the mean length of a reply in words, the mean rounds, and who stopped.

    Returns:
        `reply_length` (left out if nobody replied), `rounds`, `stopped` (share of conversations
        that the seeker ended; the others reached the limit), all three of those that did not break
        off; `failed`, the share of those that did.
    """
    whole = [one for one in simulations if not one.failure]
    replies = [t.text for s in whole for t in s.turns if t.speaker == SUPPORTER]
    words = sum(len(text.split()) for text in replies)
    length = {"reply_length": words / len(replies)} if replies else {}
    number = max(1, len(whole))
    return {
        **length,
        "rounds": sum(s.rounds for s in whole) / number,
        "stopped": sum(s.stopped for s in whole) / number,
        "failed": (len(simulations) - len(whole)) / max(1, len(simulations)),
    }
