"""The facts of a made-up world, what is told of them and what is asked.

Names and values are drawn from syllables; the wordings are in `samples/fact_world.txt`, the last
relation there is the held-out one. See `datamodules.fact_world`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from zoo.records import PlainText, Question, Triple

SHARES = {"train": 40, "val": 20, "test": 40}
NUM_OPTIONS = 4
ONSETS = [
    *("b", "br", "d", "dr", "f", "g", "gr", "h", "k", "kr", "l"),
    *("m", "n", "p", "r", "s", "st", "t", "tr", "v", "z"),
]
CODAS = ["", "k", "l", "m", "n", "r", "s", "th"]


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation in words: `{who}` is the person, `{what}` the value.

    Attributes:
        name: Part of the ids of records.
        question: How it is asked.
        ending: How its values end.
        train: Wordings of the training text.
        val: Wording of the validation text.
        test: Wording of the test text.
    """

    name: str
    question: str
    ending: str
    train: tuple[str, ...]
    val: str
    test: str


def _read_relations() -> tuple[Relation, ...]:
    """Return the relations of the file, a block of `key: text` lines each."""
    path = Path(__file__).parent / "samples" / "fact_world.txt"
    found = []
    for block in path.read_text("utf-8").split("\n\n"):
        pairs = [line.split(": ", 1) for line in block.strip().splitlines()]
        train = tuple(text for name, text in pairs if name == "train")
        texts = {name: text for name, text in pairs if name != "train"}
        found.append(Relation(train=train, **texts))
    return tuple(found)


*_SEEN, HELD_OUT = _read_relations()
RELATIONS = tuple(_SEEN)


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact and how often the text tells it."""

    who: str
    relation: Relation
    what: str
    times: int

    @property
    def kind(self) -> str:
        """The group of facts told as often."""
        return f"seen_{self.times}"

    def told(self, wording: str) -> str:
        """Return the fact in a wording."""
        return wording.format(who=self.who, what=self.what)


class World:
    """The facts of a world; see the module docstring.

    Args:
        num_entities: Number of people.
        num_values: Number of values of each relation.
        frequencies: How often the facts of each group are told.
        seed: Seed of everything.
    """

    def __init__(
        self, num_entities: int, num_values: int, frequencies: Sequence[int], seed: int
    ) -> None:
        self.seed, self.frequencies = seed, frequencies
        rng = random.Random(f"world {seed}")
        words = _words(rng)
        relations = (*RELATIONS, HELD_OUT)
        self.values = {r: [next(words) + r.ending for _ in range(num_values)] for r in relations}
        people = [f"{next(words)} {next(words)}" for _ in range(2 * num_entities)]
        self.people, self.strangers = people[:num_entities], people[num_entities:]
        self.facts = [
            Fact(who, r, rng.choice(self.values[r]), frequencies[(i + j) % len(frequencies)])
            for i, who in enumerate(self.people)
            for j, r in enumerate(relations)
        ]

    def text(self, split: str) -> Iterator[PlainText]:
        """Yield the sentences of a split."""
        rng = random.Random(f"text {split} {self.seed}")
        told = []
        for fact in self.facts:
            name = f"text:{fact.who}, {fact.relation.name}"
            if split != "train":
                wording = fact.relation.val if split == "val" else fact.relation.test
                told.append(PlainText(fact.told(wording), kind=fact.kind, id=name))
                continue
            wordings = rng.sample(fact.relation.train, len(fact.relation.train))
            told += [
                PlainText(fact.told(wordings[i % len(wordings)]), kind=fact.kind, id=f"{name}:{i}")
                for i in range(fact.times)
            ]
        rng.shuffle(told)
        return iter(told)

    def asked(self, split: str) -> Iterator[tuple[Fact, str, str]]:
        """Yield what a split asks: a fact, its kind and the record's id; the kinds take turns."""
        chosen = self._share(split)
        facts = [fact for fact in self.facts if fact.who in chosen]
        groups: dict[str, list[Fact]] = {f"seen_{times}": [] for times in self.frequencies}
        for fact in facts:
            if fact.relation is not HELD_OUT:
                groups[fact.kind].append(fact)
        if split != "train":
            size = max(len(group) for group in groups.values())
            groups["held_out"] = [fact for fact in facts if fact.relation is HELD_OUT][:size]
            groups["unreal"] = list(self._unreal(split, size))
        named = [[(fact, kind) for fact in group] for kind, group in groups.items()]
        for row in zip_longest(*named):
            for fact, kind in filter(None, row):
                yield fact, kind, f"{split}:{fact.who}, {fact.relation.name}"

    def triple(self, fact: Fact, kind: str, name: str) -> Triple:
        """Return the open question about a fact."""
        return Triple(
            fact.relation.question.format(who=fact.who), "", fact.what, kind=kind, id=name
        )

    def choice(self, fact: Fact, kind: str, name: str) -> Question:
        """Return the question about a fact with four options in a random order."""
        rng = random.Random(f"options {name} {self.seed}")
        wrong = [value for value in self.values[fact.relation] if value != fact.what]
        options = [fact.what, *rng.sample(wrong, NUM_OPTIONS - 1)]
        rng.shuffle(options)
        question = fact.relation.question.format(who=fact.who)
        return Question(question, tuple(options), options.index(fact.what), kind=kind, id=name)

    def _share(self, split: str) -> set[str]:
        """Return the people whom a split asks about."""
        before = {"train": 0, "val": SHARES["train"], "test": SHARES["train"] + SHARES["val"]}
        start, stop = before[split], before[split] + SHARES[split]
        count = len(self.people)
        return set(self.people[count * start // 100 : count * stop // 100])

    def _unreal(self, split: str, count: int) -> Iterator[Fact]:
        """Yield facts of people whom nothing mentions, others in each split."""
        rng = random.Random(f"unreal {split} {self.seed}")
        people = self.strangers[split == "test" :: 2]
        for i in range(count):
            relation = RELATIONS[i % len(RELATIONS)]
            who = people[i // len(RELATIONS) % len(people)]
            yield Fact(who, relation, rng.choice(self.values[relation]), 0)


def _words(rng: random.Random) -> Iterator[str]:
    """Yield made-up words with a capital, each once."""
    known: set[str] = set()
    while True:
        word = "".join(rng.choice(ONSETS) + rng.choice("aeiou") for _ in range(2))
        word = (word + rng.choice(CODAS)).capitalize()
        if word not in known:
            known.add(word)
            yield word
