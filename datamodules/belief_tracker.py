"""A belief tracker for ToMi-style stories: who is where, who saw what, who thinks what.

It reads a story sentence by sentence and never sees a question or an answer. An event at the
object (its announcement, a move, somebody coming into its room) is seen by everybody in the room
then. Seeing it sets one's own belief, and, for every two who see it together, what each takes the
other to believe. Containers are open, as in ToMi: whoever comes into the room sees where the object
is. What two agents think of each other follows the rule that ToMi's answers keep: they know each
other to be informed if whoever missed the move came in later (seen by the other one or not), or if
a third agent enters the room anywhere in the story. A careful reader would not conclude either.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import TypeVar

K = TypeVar("K", bound=Hashable)

ENTER = re.compile(r"(\w+) entered the (\w+)\.?")
EXIT = re.compile(r"(\w+) (?:exited|left) the (\w+)\.?")
PLACED = re.compile(r"The (\w+) is in the (\w+)\.?")
AT = re.compile(r"(\w+) is in the (\w+)\.?")
MOVE = re.compile(r"(\w+) moved the (\w+) to the (\w+)\.?")
NOISE = re.compile(r"(\w+) (?:likes|dislikes|loves|hates) the (\w+)\.?")


class StoryError(ValueError):
    """A sentence that the tracker does not understand, or a belief that nobody can have."""


@dataclass(slots=True)
class Story:
    """What a story establishes about its object.

    Attributes:
        object: The object's name.
        start: Its first container.
        now: Its last container.
        mover: Who moved it last; empty if nobody did.
        beliefs: Agent -> the container that the agent believes it to be in.
        nested: (a, b) -> the container that a thinks b believes it to be in.
        seen_before: Agents that had seen the object before the last move.
        witnesses: Agents that were in the room at the last move, the mover included.
        entered: Agents that enter the object's room, in order -> whether after the last move.
    """

    object: str = ""
    start: str = ""
    now: str = ""
    mover: str = ""
    beliefs: dict[str, str] = field(default_factory=dict)
    nested: dict[tuple[str, str], str] = field(default_factory=dict)
    seen_before: frozenset[str] = frozenset()
    witnesses: frozenset[str] = frozenset()
    entered: dict[str, bool] = field(default_factory=dict)

    def observe(self, agents: Sequence[str]) -> None:
        """Let these agents see together where the object is now."""
        self.beliefs.update(dict.fromkeys(agents, self.now))
        self.nested.update(dict.fromkeys(permutations(agents, 2), self.now))


def track(sentences: Sequence[str]) -> Story:
    """Follow a story, sentence by sentence, without line numbers.

    Raises:
        StoryError: A sentence is not understood, or no object is placed.
    """
    room = _object_room(sentences)
    where: dict[str, str] = {}
    story = Story()

    def present() -> list[str]:
        return [agent for agent, place in where.items() if place == room]

    for sentence in sentences:
        if match := ENTER.fullmatch(sentence):
            where[match[1]] = match[2]
            if match[2] == room:
                story.entered[match[1]] = bool(story.mover)
                if story.now:
                    story.observe(present())
        elif match := EXIT.fullmatch(sentence):
            where.pop(match[1], None)
        elif match := PLACED.fullmatch(sentence):
            story.object, story.start, story.now = match[1], match[2], match[2]
            story.observe(present())
        elif match := AT.fullmatch(sentence):
            where[match[1]] = match[2]
        elif match := MOVE.fullmatch(sentence):
            if match[2] != story.object:
                raise StoryError(f"{match[2]!r} is moved before it is placed")
            story.seen_before = frozenset(story.beliefs)
            story.mover, story.now = match[1], match[3]
            story.witnesses = frozenset(present())
            story.entered = dict.fromkeys(story.entered, False)
            story.observe(present())
        elif not NOISE.fullmatch(sentence):
            raise StoryError(f"sentence not understood: {sentence!r}")
    if not story.object:
        raise StoryError("no sentence says where the object is")
    return story


def first_order(story: Story, agent: str) -> tuple[str, str]:
    """Return (trace, container) for what an agent believes."""
    place = _held(story.beliefs, agent, f"{agent} never sees the {story.object}")
    parts = [_beginning(story)]
    if not story.mover:
        why = "Nobody moved it"
    elif agent == story.mover:
        why = f"{agent} moved it to the {story.now}"
    elif agent in story.witnesses:
        why = f"{story.mover} moved it to the {story.now} while {agent} was there"
    elif place == story.now:
        back = "back" if agent in story.seen_before else "in"
        why = f"{_missed(story, agent)}, but {agent} came {back} later and saw it there"
    else:
        why = _missed(story, agent)
    still = "still " if story.mover and place != story.now else ""
    parts.append(f"{why}, so {agent} {still}believes it is in the {place}.")
    return " ".join(parts), place


def second_order(story: Story, agent: str, other: str) -> tuple[str, str]:
    """Return (trace, container) for what an agent thinks another one believes (ToMi's rule)."""
    reason = f"{agent} and {other} never see the {story.object} together"
    place = _held(story.nested, (agent, other), reason)
    absent = [name for name in (agent, other) if name not in story.witnesses]
    if not story.mover:
        why = "Nobody moved it"
    elif not absent:
        seen = [name for name in (agent, other) if name != story.mover]
        verb = "was" if len(seen) == 1 else "were"
        why = f"{story.mover} moved it to the {story.now} while {' and '.join(seen)} {verb} there"
    else:
        why = _missed(story, absent[0])
        third = next((name for name in story.entered if name not in (agent, other)), "")
        if all(story.entered.get(name, False) for name in absent):
            place = story.now
            why += f", but {' and '.join(absent)} came in later and saw it there"
        elif third:
            place = story.now
            why += f", but {third} entered the room too"
    still = "still " if story.mover and place != story.now else ""
    conclusion = f"so {agent} thinks that {other} {still}believes it is in the {place}."
    return f"{_beginning(story)} {why}, {conclusion}", place


def memory(story: Story) -> tuple[str, str]:
    """Return (trace, container) for where the object was at the beginning."""
    return _beginning(story), story.start


def reality(story: Story) -> tuple[str, str]:
    """Return (trace, container) for where the object is."""
    why = f"{story.mover} moved it to the {story.now}" if story.mover else "Nobody moved it"
    return f"{_beginning(story)} {why}, so it is really in the {story.now}.", story.now


def _object_room(sentences: Sequence[str]) -> str:
    """Return the object's room: its mover's, or where most agents are when it is placed."""
    where: dict[str, str] = {}
    room = ""
    for sentence in sentences:
        if match := ENTER.fullmatch(sentence):
            where[match[1]] = match[2]
        elif match := EXIT.fullmatch(sentence):
            where.pop(match[1], None)
        elif PLACED.fullmatch(sentence):
            common = Counter(where.values()).most_common(1)
            room = common[0][0] if common else room
        elif match := AT.fullmatch(sentence):
            where[match[1]] = match[2]
        elif match := MOVE.fullmatch(sentence):
            return where.get(match[1], room)
    return room


def _beginning(story: Story) -> str:
    return f"The {story.object} was in the {story.start} at the beginning."


def _missed(story: Story, agent: str) -> str:
    moved = f"{story.mover} moved it to the {story.now}"
    if agent in story.seen_before:
        return f"{agent} left before {moved}"
    return f"{agent} was not there when {moved}"


def _held(beliefs: Mapping[K, str], key: K, reason: str) -> str:
    if key not in beliefs:
        raise StoryError(reason)
    return beliefs[key]
