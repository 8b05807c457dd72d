"""Tasks made of two parts: which name of a query is asked for, and the form of the answer.

Name: the query's domain in CLINC150, its intent, or a colour or a city of its domain, which are
made up. Form: alone, twice, with `perhaps`, politely. A task is a pair of both, 16 in all; its
condition names both in one of six frames, four for training and two that are held out (`unseen`).

Held-out tasks are cells of this table such that every row and every column keeps the others: each
part is known from training, the pair is not. This is what a model from scratch can be asked: it
knows no word that training did not show it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.records import Conditioned

WHATS = ("domain", "intent", "colour", "city")
FORMS = {"alone": "{0}", "twice": "{0} and {0}", "perhaps": "perhaps {0}", "politely": "{0} please"}
FRAMES = (
    "Name the {what} {form}.",
    "Say {form} which {what}.",
    "The {what}, {form}.",
    "Answer {form}: {what}?",
    "Give its {what} {form}.",
    "Write {form} the {what}.",
)
UNSEEN_FRAMES = 2  # the last ones
COLOURS = ["red", "blue", "green", "yellow", "black", "white", "brown", "pink", "grey", "purple"]
CITIES = ["oslo", "rome", "paris", "cairo", "lima", "delhi", "tokyo", "boston", "dublin", "prague"]

Task = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Query:
    """A query with its domain and its intent."""

    text: str
    domain: str
    intent: str


@dataclass(frozen=True)
class Tasks:
    """The 16 tasks over given domains, some of them held out.

    Attributes:
        domains: Names of the domains, at most 10.
        held_out: Tasks that training leaves out.
    """

    domains: tuple[str, ...]
    held_out: frozenset[Task]

    @property
    def seen(self) -> list[Task]:
        """The tasks of training."""
        return [task for task in all_tasks() if task not in self.held_out]

    def answer(self, query: Query, task: Task) -> str:
        """Return the right answer to a query."""
        domain = self.domains.index(query.domain)
        names = {
            "domain": query.domain,
            "intent": query.intent,
            "colour": COLOURS[domain],
            "city": CITIES[domain],
        }
        return FORMS[task[1]].format(names[task[0]])

    def record(self, query: Query, task: Task, frame: str, group: str = "") -> Conditioned:
        """Return a query asked for a task in the words of a frame."""
        what, form = task
        return Conditioned(
            condition=frame.format(what=what, form=form),
            prompt=query.text,
            response=self.answer(query, task),
            task=f"{what}, {form}",
            group=group,
        )

    def training(self, queries: Sequence[Query], count: int, seed: int) -> list[Conditioned]:
        """Return `count` records: queries in random orders, tasks and frames drawn for each."""
        dice = random.Random(seed)
        records: list[Conditioned] = []
        while len(records) < count:
            for query in dice.sample(list(queries), len(queries)):
                frame = dice.choice(FRAMES[:-UNSEEN_FRAMES])
                records.append(self.record(query, dice.choice(self.seen), frame))
        return records[:count]

    def testing(self, queries: Sequence[Query], seed: int) -> list[Conditioned]:
        """Return each query three times: `seen`, in an `unseen` frame, and an `unseen_task`."""
        dice, records = random.Random(seed), []
        held_out = [task for task in all_tasks() if task in self.held_out]
        for query in queries:
            for group, tasks, frames in (
                ("seen", self.seen, FRAMES[:-UNSEEN_FRAMES]),
                ("unseen", self.seen, FRAMES[-UNSEEN_FRAMES:]),
                ("unseen_task", held_out, FRAMES[:-UNSEEN_FRAMES]),
            ):
                task, frame = dice.choice(tasks), dice.choice(frames)
                records.append(self.record(query, task, frame, group))
        return records


def all_tasks() -> list[Task]:
    """Return the 16 pairs of name and form."""
    return [(what, form) for what in WHATS for form in FORMS]


def hold_out(each: int, seed: int) -> frozenset[Task]:
    """Return `each` tasks of every row and of every column of the table, drawn by a seed."""
    forms = random.Random(seed).sample(list(FORMS), len(FORMS))
    return frozenset(
        (what, forms[(row + shift) % len(forms)])
        for row, what in enumerate(WHATS)
        for shift in range(each)
    )
