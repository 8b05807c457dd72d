"""Whom the policy talks to: a script, a language model, or logged dialogues.

An environment keeps nothing: a dialogue follows from its number and from what was said, so that a
run which is resumed meets the same people.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Literal, NamedTuple, Protocol

from zoo.backbone import Backbone
from zoo.errors import InputError
from zoo.judges.judge import Judge, persist
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import Decision, decisions
from zoo.support.labels import Labels
from zoo.support.simulation import SimulatedSeeker

RETRIES = 2
GRADES = ("1", "2", "3", "4", "5")


@dataclass(frozen=True)
class User:
    """Who is visited, and how often.

    Attributes:
        kind: Nobody, a script, logged dialogues, or a language model.
        simulator: The language model of `llm`.
        visits: Dialogues of a visit, and of a rollout with the user.
        turns: Most turns of such a dialogue.
        replayed: Experiences that each step of the world model in S4 learns from.
        seed: Seed of who comes.
    """

    kind: Literal["none", "scripted", "replay", "llm"] = "none"
    simulator: Backbone | None = None
    visits: int = 4
    turns: int = 2
    replayed: int = 4
    seed: int = 0


class Answer(NamedTuple):
    """What comes back for a reply.

    Attributes:
        utterance: The user's next words, a message a line; None where the dialogue ends.
        reward: r_t; None where nobody rates.
    """

    utterance: str | None
    reward: float | None


class UserEnv(Protocol):
    """A user who talks and rewards."""

    def open(self, number: int) -> Decision:
        """Return the first state of the dialogue of this number."""
        ...

    def answer(self, decision: Decision, reply: Turn) -> Answer:
        """Return what the user says to a reply, and the reward of the reply."""
        ...


def opened(turns: Sequence[Turn], name: str, situation: str = "") -> Decision:
    """Return the state in which a reply to these turns is awaited."""
    target = Turn(SUPPORTER, "")
    return Decision(tuple(turns), target, 0, False, dialogue=name, id=name, situation=situation)


def joined(turns: Sequence[Turn]) -> list[Turn]:
    """Return turns in which neighbours of one speaker are one, a line each."""
    runs = groupby(turns, lambda turn: turn.speaker)
    return [Turn(speaker, "\n".join(turn.text for turn in run)) for speaker, run in runs]


CUES: Mapping[str, tuple[str, ...]] = {
    "anxiety": ("My heart races all night.", "What if it all goes wrong?"),
    "sadness": ("I cry a lot these days.", "Nothing is the same without him."),
    "anger": ("They lied to my face again.", "I could scream at them."),
    "shame": ("I hide from everybody now.", "They all saw me fail."),
}


class ScriptedEnv:
    """Rewards a reply by 1 if it names what the seeker feels, which only hints tell.

    The feeling is that of the dialogue's number. A seeker who is understood ends the dialogue; else
    the next hint follows.

    Args:
        cues: Feeling -> its hints.
        seed: Seed of who comes in which order.
    """

    def __init__(self, cues: Mapping[str, Sequence[str]] = CUES, seed: int = 0) -> None:
        self.cues, self.seed = cues, seed

    def feeling(self, name: str) -> str:
        """Return what the seeker of a dialogue feels."""
        return random.Random(f"{self.seed}-{name}").choice(sorted(self.cues))

    def hint(self, name: str, turn: int) -> str:
        """Return what this seeker says in a turn."""
        hints = self.cues[self.feeling(name)]
        return hints[(random.Random(name).randrange(len(hints)) + turn) % len(hints)]

    def open(self, number: int) -> Decision:
        """Return a dialogue in which the seeker has given a first hint."""
        name = f"scripted:{number}"
        return opened([Turn(SEEKER, self.hint(name, 0))], name)

    def answer(self, decision: Decision, reply: Turn) -> Answer:
        """Return 1 and the end for the right feeling alone, else 0 and another hint."""
        named = [feeling for feeling in self.cues if feeling in reply.text.lower()]
        if named == [self.feeling(decision.dialogue)]:
            return Answer(None, 1.0)
        replies = sum(turn.speaker == SUPPORTER for turn in decision.turns)
        return Answer(self.hint(decision.dialogue, replies + 1), 0.0)


class LLMEnv:
    """A language model plays the seeker and rates each reply from 1 to 5.

    Args:
        judge: Who plays.
        situations: What seekers come with, in turn.
        seed: Seed of their messages.
    """

    def __init__(self, judge: Judge, situations: Sequence[str], seed: int = 0) -> None:
        if not situations:
            raise InputError("model.user.kind: llm needs dialogues with a situation")
        self.judge, self.situations, self.seed = judge, situations, seed

    def open(self, number: int) -> Decision:
        """Return a dialogue that the seeker has begun."""
        topic = self.situations[number % len(self.situations)]
        seeker = SimulatedSeeker(self.judge, topic, self.seed + number)
        words, _ = persist(lambda attempt: seeker(()), RETRIES)
        return opened([Turn(SEEKER, words or topic)], f"llm:{number}", topic)

    def answer(self, decision: Decision, reply: Turn) -> Answer:
        """Return the next message, and the expected grade among 1 to 5."""
        number = int(decision.dialogue.partition(":")[2])
        seeker = SimulatedSeeker(self.judge, decision.situation, self.seed + number)
        turns = tuple(joined((*decision.turns, reply)))
        said, _ = persist(partial(_say, seeker, turns), RETRIES)
        return Answer(None if said is None else said[0], self._grade(turns))

    def _grade(self, turns: Sequence[Turn]) -> float | None:
        told = "\n".join(f"{turn.speaker.capitalize()}: {turn.text}" for turn in turns)
        system = "You rate how much the supporter's last message helps the seeker, from 1 to 5."
        messages = [("system", system), ("user", f"{told}\nAnswer with one digit.")]
        chances, _ = persist(lambda attempt: self.judge.score(messages, GRADES), RETRIES)
        if chances is None:
            return None
        return sum(float(grade) * chance for grade, chance in zip(GRADES, chances, strict=True))


def _say(seeker: SimulatedSeeker, turns: tuple[Turn, ...], attempt: int) -> tuple[str | None]:
    return (seeker(turns),)


class ReplayEnv:
    """Says what was said in logged dialogues, whatever the reply; rewards nothing.

    A reply stands for all that the supporter said in a row, and is answered by all that the seeker
    said in a row after it.

    Args:
        dialogues: The log.
        labels: Names of strategies or acts.
        seed: Seed of the order in which states come.
    """

    def __init__(self, dialogues: Mapping[str, Dialogue], labels: Labels, seed: int = 0) -> None:
        states = [
            decision
            for dialogue in dialogues.values()
            for decision in decisions(dialogue, labels, need_strategies=False)
            if decision.query
        ]
        if not states:
            raise InputError("model.user.kind: replay needs training dialogues")
        random.Random(seed).shuffle(states)
        self.dialogues, self.states = dialogues, states
        self.begun = {state.id: len(state.turns) for state in states}

    def open(self, number: int) -> Decision:
        """Return a logged state."""
        return self.states[number % len(self.states)]

    def answer(self, decision: Decision, reply: Turn) -> Answer:
        """Return the logged messages that follow, a line each; None at the end of the dialogue."""
        begun = self.begun[decision.id]
        replied = sum(turn.speaker == SUPPORTER for turn in decision.turns[begun:])
        rest = joined(self.dialogues[decision.dialogue].turns[begun:])
        said = [turn.text for turn in rest if turn.speaker == SEEKER]
        return Answer(said[replied] if replied < len(said) else None, None)
