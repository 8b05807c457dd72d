"""Generated false-belief stories with gold thoughts: the data that needs no file.

After the Sally-Anne test: two people, an object, one of them moves it. Whether the other one saw
the move depends on the order of leaving, coming back and moving. Four kinds of question, a quarter
of the records each and in turn, so every prefix is balanced:

- `false_belief`: what somebody thinks who was away during the move. Answer: the first place.
- `true_belief`: what somebody thinks who saw it (stayed, was back in time, or is the one who moved
  it). Answer: the second place.
- `memory`: where the object was at the beginning. Answer: the first place.
- `reality`: where it really is. Answer: the second place.

Always naming the first place, or always the second, is right for half of the records and wrong for
all of two kinds. A sentence about leaving occurs in false and true belief stories alike.

An answer is written `the basket`, so that the place has the tokens that it has in the story.

Names, objects, places and rooms of the three splits are disjoint: a model that scores on `val` or
`test` has learned who sees what, not words. Validation and test stories do not depend on `seed`, so
that runs with different seeds are compared on the same questions.

With `moves: 2` the world is a harder one, of three people, two moves and beliefs about beliefs: see
`datamodules/two_moves.py`.

Lengths in SmolLM2 tokens over the default splits, mean (longest): query 38 (55), thought 22 (35),
answer 2 (4).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from datamodules.base import ZooDataModule
from datamodules.two_moves import KINDS as HARDER_KINDS
from datamodules.two_moves import make_two_moves
from zoo.errors import check_counts
from zoo.records import Record, Triple

KINDS = ("false_belief", "memory", "true_belief", "reality")
SAW = ("stayed", "back", "mover")
"""How one can know: stayed, was back in time, or moved it."""


@dataclass(frozen=True, slots=True)
class Words:
    """The vocabulary of a split."""

    names: tuple[str, ...]
    objects: tuple[str, ...]
    places: tuple[str, ...]
    rooms: tuple[str, ...]


def _words(names: str, objects: str, places: str, rooms: str) -> Words:
    return Words(*(tuple(text.split()) for text in (names, objects, places, rooms)))


def _read_words() -> Words:
    """Return the training words; many of them, so that copying is learned and not the words."""
    path = Path(__file__).parent / "samples" / "false_belief_words.txt"
    return _words(*(line.partition(": ")[2] for line in path.read_text("utf-8").splitlines()))


WORDS = {
    "train": _read_words(),
    "val": _words(
        "Daniel Ella George Helen Jane Kevin Lucy Martin",
        "phone hat candle orange ticket brush",
        "counter cabinet sofa backpack envelope vase",
        "basement lobby workshop porch",
    ),
    "test": _words(
        "Nora Oscar Peter Rachel Simon Thomas Alice Robert",
        "lemon map glove button knife pencil",
        "wardrobe fridge barrel purse trunk desk",
        "studio cellar bathroom classroom",
    ),
}


class FalseBelief(ZooDataModule):
    """Generated false-belief stories as `Triple` records.

    Args:
        num_train: Number of training records.
        num_val: Number of validation records.
        num_test: Number of test records.
        moves: How often the object is moved: 1, or 2 for the harder world.
        seed: Seed of the training stories and of the order of the training batches.
        **loader: Batches and limits; see `ZooDataModule`.
    """

    record_types = (Triple,)

    def __init__(
        self,
        num_train: int = 2000,
        num_val: int = 200,
        num_test: int = 400,
        *,
        moves: Literal[1, 2] = 1,
        seed: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__(seed=seed, **loader)
        self.counts = {"train": num_train, "val": num_val, "test": num_test}
        self.moves = moves
        check_counts("data", {f"num_{name}": count for name, count in self.counts.items()})

    def load(self, split: str) -> list[Record]:
        """Generate the stories of a split."""
        rng = random.Random(f"{split} {self.seed if split == 'train' else 0}")
        make, kinds = (make_triple, KINDS) if self.moves == 1 else (make_harder, HARDER_KINDS)
        return [
            make(rng, WORDS[split], kinds[i % len(kinds)], f"{split}:{i}")
            for i in range(self.counts[split])
        ]


def make_triple(rng: random.Random, words: Words, kind: str, name: str) -> Triple:
    """Return one question of a kind (see `KINDS`) with its thought, answer and id."""
    mover, other = rng.sample(words.names, 2)
    thing, extra = rng.sample(words.objects, 2)
    first, second, third = rng.sample(words.places, 3)
    missed = rng.random() < 0.5 if kind in ("memory", "reality") else kind == "false_belief"
    how = "missed" if missed else rng.choice(SAW)
    pair = " and ".join(rng.sample((mover, other), 2))
    story = [
        f"{pair} were in the {rng.choice(words.rooms)}.",
        f"The {thing} was in the {first}.",
        *_events(how, other, f"{mover} moved the {thing} to the {second}."),
    ]
    _distract(rng, story, mover, f"The {extra} was in the {third}.", extra)
    moved, thought = f"{mover} moved it to the {second}", f"The {thing} was in the {first}"
    if kind == "memory":
        question, answer = f"Where was the {thing} at the beginning?", first
        thought += " at the beginning."
    elif kind == "reality":
        question, answer = f"Where is the {thing} really?", second
        thought += f". {moved}, so it is really in the {second}."
    else:
        asked = mover if how == "mover" else other
        question, answer = f"Where does {asked} think the {thing} is?", first if missed else second
        why = {
            "missed": f"{other} left before {moved}",
            "stayed": f"{other} was there when {moved}",
            "back": f"{other} came back before {moved}",
            "mover": moved,
        }[how]
        thought += f". {why}, so {asked} thinks it is in the {answer}."
    query = " ".join([*story, question])
    return Triple(query, thought, f"the {answer}", kind=kind, id=name)


def make_harder(rng: random.Random, words: Words, kind: str, name: str) -> Triple:
    """Return one question of the world with two moves."""
    people, places = rng.sample(words.names, 3), rng.sample(words.places, 3)
    thing, room = rng.choice(words.objects), rng.choice(words.rooms)
    return replace(make_two_moves(rng, people, thing, places, room, kind), id=name)


def _events(how: str, other: str, move: str) -> list[str]:
    """Return the sentences that decide who saw the move."""
    left, back = f"{other} left.", f"{other} came back."
    return {
        "missed": [left, move],
        "mover": [left, move],
        "stayed": [move],
        "back": [left, back, move],
    }[how]


def _distract(rng: random.Random, story: list[str], mover: str, elsewhere: str, extra: str) -> None:
    """Put a sentence that decides nothing into one story of three."""
    choice = rng.randrange(6)
    if choice == 0:
        story.insert(rng.randint(1, 2), elsewhere)
    elif choice == 1:
        story.insert(rng.randint(1, len(story)), f"{mover} likes the {extra}.")
