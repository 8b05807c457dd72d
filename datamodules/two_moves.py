"""Stories of `FalseBelief` with three people and two moves, and beliefs about beliefs.

An object is in a first place, is moved to a second and then to a third. Before each move people may
leave and come back; who is in the room sees the move. Five kinds of question, a fifth of the
records each and in turn:

- `false_belief`: what somebody thinks who missed the last move. Answer: first or second place.
- `true_belief`: what somebody thinks who saw the last move; missed the first one or not.
- `second_order`: what X thinks that Y thinks. X knows of Y what both of them saw: the answer is the
  place of the last move that both saw. Answer: each place equally often.
- `memory`: where the object was at the beginning. Answer: the first place.
- `reality`: where it is. Answer: the third place.

A thought says of each move in turn whether it was seen, so the answer is read off it and is not its
end. No rule of thumb solves the beliefs (always the first, second or third place; the place where
it was when somebody last left; in second order what X or what Y thinks): a test says how far each
one comes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from zoo.records import Triple

KINDS = ("false_belief", "true_belief", "second_order", "memory", "reality")
MISLED = (((0,), (1,), (0, 1)), ((0,), (1,)), ((),))
"""By the place that answers what X thinks that Y thinks: which of both (X is 0, Y is 1) shall think
otherwise; of the last place, neither can."""


@dataclass
class TwoMoves:
    """What happens, and who sees which move.

    Attributes:
        people: Three names.
        places: First, second and third place of the object.
        sentences: The story.
        seen: People in the room at each move.
    """

    people: list[str]
    places: list[str]
    sentences: list[str] = field(default_factory=list)
    seen: list[set[str]] = field(default_factory=list)

    def place(self, *witnesses: str) -> int:
        """Return which place the object has for people who know what all of them saw."""
        common = [i for i, seen in enumerate(self.seen, 1) if seen.issuperset(witnesses)]
        return max(common, default=0)

    def askable(self, kind: str) -> Iterator[tuple[tuple[str, ...], int]]:
        """Yield who can be asked about in a kind of belief, and the place that answers it."""
        if kind == "second_order":
            for one in self.people:
                for other in self.people:
                    if one != other:
                        yield (one, other), self.place(one, other)
            return
        for person in self.people:
            place = self.place(person)
            if (place == 2) == (kind == "true_belief"):
                yield (person,), place


def tell(
    rng: random.Random, people: list[str], thing: str, places: list[str], room: str
) -> TwoMoves:
    """Return a story in which people leave and come back at random before each move."""
    story = TwoMoves(people, places)
    said = story.sentences
    said.append(f"{people[0]}, {people[1]} and {people[2]} were in the {room}.")
    said.append(f"The {thing} was in the {places[0]}.")
    inside = set(people)
    for place in places[1:]:
        for person in rng.sample(people, 3):
            if person not in inside and rng.random() < 0.5:
                inside.add(person)
                said.append(f"{person} came back.")
            elif person in inside and len(inside) > 1 and rng.random() < 0.5:
                inside.remove(person)
                said.append(f"{person} left.")
        mover = rng.choice([person for person in people if person in inside])
        said.append(f"{mover} moved the {thing} to the {place}.")
        story.seen.append(set(inside))
    return story


def make_two_moves(
    rng: random.Random, people: list[str], thing: str, places: list[str], room: str, kind: str
) -> Triple:
    """Return a question of a kind (see `KINDS`) with its thought and answer, without id."""
    wanted = rng.choice({"false_belief": (0, 1), "true_belief": (2,)}.get(kind, (0, 1, 2)))
    misled = rng.choice(MISLED[wanted]) if kind == "second_order" else ()
    while True:  # nearly every second story has somebody to ask
        story = tell(rng, people, thing, places, room)
        if kind in ("memory", "reality"):
            return _fact(story, thing, kind)
        fitting = [asked for asked, place in story.askable(kind) if place == wanted]
        fitting = [
            asked for asked in fitting if all(story.place(asked[one]) != wanted for one in misled)
        ]
        if fitting:
            return _belief(story, thing, kind, rng.choice(fitting), wanted)


def _fact(story: TwoMoves, thing: str, kind: str) -> Triple:
    first, second, third = story.places
    moves = f"From the {first} it went to the {second}, then to the {third}"
    if kind == "memory":
        question = f"Where was the {thing} at the beginning?"
        return _triple(story, question, f"{moves}. The beginning counts.", first, kind)
    question = f"Where is the {thing} really?"
    return _triple(story, question, f"{moves}. The end counts.", third, kind)


def _belief(story: TwoMoves, thing: str, kind: str, asked: tuple[str, ...], place: int) -> Triple:
    if len(asked) == 1:
        question = f"Where does {asked[0]} think the {thing} is?"
        saw, missed = f"{asked[0]} saw", f"{asked[0]} missed"
    else:
        question = f"Where does {asked[0]} think {asked[1]} thinks the {thing} is?"
        pair = f"{asked[0]} and {asked[1]}"
        saw, missed = f"{pair} both saw", f"{pair} did not both see"
    thought = [f"The {thing} was in the {story.places[0]}."]
    for seen, target in zip(story.seen, story.places[1:], strict=True):
        verb = saw if seen.issuperset(asked) else missed
        thought.append(f"{verb} the move to the {target}.")
    return _triple(story, question, " ".join(thought), story.places[place], kind)


def _triple(story: TwoMoves, question: str, thought: str, answer: str, kind: str) -> Triple:
    return Triple(" ".join([*story.sentences, question]), thought, f"the {answer}", kind=kind)
