"""Conversations with a simulated seeker: how long they talk, and how much a reply says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from zoo.judges.judge import Judge, persist
from zoo.records import SEEKER, SUPPORTER, Turn

Seeker = Callable[[tuple[Turn, ...]], str | None]
"""Given what was said so far: the seeker's next message, None to stop."""

Replier = Callable[[tuple[Turn, ...]], str]
"""Given what was said so far, a seeker turn last: the supporter's reply."""

STOP = "[[END]]"  # what a model writes that plays the seeker and wishes to stop


class SimulatedSeeker:
    """A language model that plays the seeker; its messages are sampled.

    Args:
        judge: Who writes.
        topic: What it wants to talk about: a topic, or a situation in its own words.
        seed: Seed of its messages.
    """

    def __init__(self, judge: Judge, topic: str, seed: int = 0) -> None:
        self.judge, self.topic, self.seed = judge, topic, seed

    def __call__(self, turns: tuple[Turn, ...]) -> str | None:
        """Return the next message; None to stop."""
        kept = list(turns)
        while kept and not self.judge.fits(seeker_prompt(self.topic, kept)):
            del kept[0]
        seed = 1000 * self.seed + len(turns)
        return read_seeker(self.judge.write(seeker_prompt(self.topic, kept), seed=seed))


def seeker_system(topic: str) -> str:
    """Return the system turn of a seeker who wants to talk about a topic or situation."""
    return (
        f"You are a person who chats with a supporter about this: {topic}\n"
        "Write your own next message only, in one to three sentences of everyday language, and "
        "react to what the supporter said last. Never speak for the supporter. Once you have "
        f"nothing more to say, or no longer wish to talk, write {STOP} and nothing else."
    )


def seeker_prompt(topic: str, turns: Sequence[Turn]) -> list[tuple[str, str]]:
    """Return the (role, text) turns that ask the seeker for the next message.

    The model is the seeker, so the supporter's turns are the user's. A conversation always begins
    with a user turn.
    """
    roles = [("user" if turn.speaker == SUPPORTER else "assistant", turn.text) for turn in turns]
    opening = [] if roles and roles[0][0] == "user" else [("user", "Hello. What brings you here?")]
    return [("system", seeker_system(topic)), *opening, *roles]


def read_seeker(words: str) -> str | None:
    """Return the seeker's message; None if they wish to stop or say nothing.

    Example:
        >>> read_seeker(" I slept badly. "), read_seeker("Thanks, bye! [[END]]")
        ('I slept badly.', None)
    """
    return None if STOP in words else words.strip() or None


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
    turns: tuple[Turn, ...] = ()
    for _ in range(max_rounds):
        for speaker, speak in ((SEEKER, seeker), (SUPPORTER, reply)):
            answer, why = persist(partial(_answer, speak, (*opening, *turns)), retries)
            if answer is None:
                return Simulation(turns, stopped=False, failure=f"{speaker}: {why[-1]}")
            if answer[0] is None:
                return Simulation(turns, stopped=True)
            turns = (*turns, Turn(speaker, answer[0]))
    return Simulation(turns, stopped=False)


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
    whole = [s for s in simulations if not s.failure]
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
