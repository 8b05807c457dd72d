"""ToMi for a small model: its questions, and a base model that can tell what happens in a story.

A word of ToMi is made one token: `red_treasure_chest` is written `redtreasurechest`, and an answer
`the redbucket`, so that a place has the token that it has in the story.

The base model, a Llama of four blocks, is trained from scratch to go on from training stories of
ToMi with two true sentences: the way of the object (or its first, or its last place), and who was
there when it was moved, who was away, and who of those came in later. There are 999 such stories;
people, objects, rooms and containers are exchanged for others of the file at random, so that no
story is learned by heart. No text has a question, a turn, an answer or the words of a belief.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.methanol.base_model import train_on
from benchmarks.small_models import bpe_tokenizer
from datamodules import ToMi
from datamodules import belief_tracker as belief
from zoo.prompts.thoughts import SYSTEM
from zoo.records import Triple

VOCABULARY = 1200
ROUNDS = (3000, 3000)
GROUPS = {  # sentence -> what its words are
    belief.ENTER: ("people", "rooms"),
    belief.PLACED: ("objects", "containers"),
}
SENTENCE = re.compile(r"[^.]+\.")


def questions(path: str | None, split: str) -> list[Triple]:
    """Return the questions of a split, in the order of `ToMi`, each word as one token."""
    return [_one_word(each) for each in ToMi(path).load(split) if isinstance(each, Triple)]


def _one_word(each: Triple) -> Triple:
    query, thought, answer = (t.replace("_", "") for t in (each.query, each.thought, each.answer))
    return replace(each, query=query, thought=thought, answer=f"the {answer}")


def story_of(question: Triple) -> str:
    """Return the story before the question."""
    return question.query.partition(" Where ")[0]


def sentences(story: str) -> list[str]:
    """Return the sentences of a story."""
    return [each.strip() for each in SENTENCE.findall(story)]


@dataclass
class Reports:
    """Training stories of ToMi with other words, and true sentences about them.

    Attributes:
        stories: The stories.
    """

    stories: Sequence[str]

    @cached_property
    def groups(self) -> list[list[str]]:
        """Words that stand for one another: people, rooms, objects, containers."""
        found: dict[str, set[str]] = {name: set() for names in GROUPS.values() for name in names}
        for sentence in {each for story in self.stories for each in sentences(story)}:
            for pattern, names in GROUPS.items():
                if match := pattern.fullmatch(sentence):
                    for name, word in zip(names, match.groups(), strict=True):
                        found[name].add(word)
        return [sorted(words) for words in found.values()]

    def __call__(self, rng: random.Random) -> tuple[str, str]:
        """Return a story and sentences about it."""
        others: dict[str, str] = {}
        for words in self.groups:
            others.update(zip(words, rng.sample(words, len(words)), strict=True))
        story = exchanged(rng.choice(self.stories), others)
        return story, facts(rng, story)


def exchanged(text: str, others: Mapping[str, str]) -> str:
    """Return a text with words exchanged for others."""
    return re.sub(r"\w+", lambda match: others.get(match[0], match[0]), text)


def facts(rng: random.Random, text: str) -> str:
    """Return two true sentences about a story, in random order."""
    story = belief.track(sentences(text))
    first, last = story.start, story.now
    ways = (
        f" From the {first} it went to the {last}.",
        f" It was in the {first} at first.",
        f" It is in the {last} now.",
    )
    came = [match[1] for each in sentences(text) if (match := belief.ENTER.fullmatch(each))]
    where = []
    for name in dict.fromkeys(came):
        where.append(f"{name} was {'there' if name in story.witnesses else 'away'}")
        if name not in story.witnesses and story.entered.get(name):
            where[-1] += " and came later"
    told = [rng.choice(ways), f" When it went to the {last}, {', '.join(where)}."]
    return "".join(rng.sample(told, 2))


def tokenizer(asked: Sequence[Triple], reports: Reports) -> Any:
    """Return a tokenizer that has every word of training questions, thoughts and headers."""
    rng = random.Random("tokenizer")
    read = [part for each in asked for part in (each.query, each.thought, f" {each.answer}")]
    told = [part for _ in range(3000) for part in reports(rng)]
    headers = ["system\nuser\nthought\nassistant\n", SYSTEM, "the box"] * 50
    return bpe_tokenizer([*read, *told, *headers], VOCABULARY)


def train_base(asked: Sequence[Triple], folder: Path) -> None:
    """Train the base model on the stories of training questions and write its folder."""
    reports = Reports(sorted({story_of(each) for each in asked}))
    train_on(reports, tokenizer(asked, reports), folder, rounds=ROUNDS)
