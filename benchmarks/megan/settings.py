"""What `from_scratch.py` trains on and asks in both settings, and where conditions stand."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import datamodules
from benchmarks import trials
from benchmarks.megan.composed import Query, Tasks, hold_out
from zoo.records import Conditioned

INTENTS = 1  # of each domain
HELD_OUT = 1  # tasks of each row and column
UNTOLD = "Answer."  # the system turn without a condition

# Wordings of both questions with the same words in another order: a hypernetwork that reads its
# condition without positions cannot tell them apart.
SAME_WORDS = {
    "The answer is the domain, not the exact wish.",
    "The answer is the exact wish, not the domain.",
}

Records = list[Conditioned]


def make_data(
    setting: str, seed: int, count: int, split: str, texts: int
) -> tuple[Records, Records]:
    """Return what a seed trains on, in order, and what it answers; the latter by query.

    Args:
        setting: `steered` or `composed`.
        seed: Of the order, of held-out tasks and of what is drawn for each query.
        count: Training records.
        split: `val` or `test`, whose queries are answered.
        texts: How many of these queries, the same for every seed.
    """
    path = str(Path(trials.data_path("clinc150")).parent)
    views: Any = datamodules.TaskViews(path, sources=["clinc150"], intents=INTENTS)
    tested = sorted(by_prompt(views.records(split)).items())
    tested = random.Random(0).sample(tested, min(texts, len(tested)))
    if setting == "steered":
        records = told_apart(views.records("train"))
        order: Records = []
        dice = random.Random(seed)
        while len(order) < count:
            order += dice.sample(records, len(records))
        return order[:count], told_apart([one for _, records in tested for one in records])
    queries = [query(records) for records in by_prompt(views.records("train")).values()]
    domains = tuple(sorted({each.domain for each in queries}))
    tasks = Tasks(domains, hold_out(HELD_OUT, seed))
    asked = [query(records) for _, records in tested]
    return tasks.training(queries, count, seed), tasks.testing(asked, seed)


def told_apart(records: Records) -> Records:
    """Leave out the conditions of `SAME_WORDS`."""
    return [record for record in records if record.condition not in SAME_WORDS]


def by_prompt(records: Records) -> dict[str, Records]:
    """Return the records of each query."""
    found = defaultdict(list)
    for record in records:
        found[record.prompt].append(record)
    return dict(found)


def query(records: Records) -> Query:
    """Return the query that records ask for its domain and its intent."""
    answers = {record.task: record.response for record in records}
    return Query(records[0].prompt, answers["clinc150 domain"], answers["clinc150 intent"])


def placed(records: Records, place: str, untold: str = UNTOLD) -> Records:
    """Return records whose condition stands in the `gates`, the `prompt`, `both` or nowhere.

    Args:
        records: With their conditions.
        place: Where the condition stands.
        untold: The system turn where the prompt has no condition.
    """
    return [
        replace(
            record,
            system=record.condition if place in ("prompt", "both") else untold,
            condition=record.condition if place in ("gates", "both") else "",
        )
        for record in records
    ]
