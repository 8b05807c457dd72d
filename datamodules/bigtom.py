"""BigToM: does a character know of an event, and what follows (Gandhi et al., 2023).

File: `bigtom.csv`, semicolon separated, no header, one scenario a row, 19 fields (`FIELDS`). The
story has five sentences: who and where, the wish, the facts, the first belief (4th), and an event
that makes it false (5th). A sentence then says whether the character notices.

Each scenario yields two `Triple` records: `true_belief` (notices) and `false_belief` (does not).
The question shows both answers as `a)` and `b)` in the words of the official evaluation; the order
depends on a hash of the story, so in each scenario the same letter is right once. `answer` is the
right option's text. `thought` lines up the story's belief sentence, the event and the awareness
sentence, and says whether the belief changes.

BigToM is an evaluation set without a training part. The split is ours: scenarios in the order of a
hash of their story, 60 / 20 / 20 percent (120 / 40 / 40 of 200), both conditions on one side.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, find, read_lines
from zoo.errors import InputError
from zoo.records import Record, Triple

FIELDS = (
    "story",
    "aware of event",
    "not aware of event",
    "action aware",
    "action not aware",
    "belief question",
    "desire question",
    "action question",
    "belief answer aware",
    "desire answer aware",
    "action answer aware",
    "belief answer not aware",
    "desire answer not aware",
    "action answer not aware",
    "random event",
    "aware of random event",
    "not aware of random event",
    "origin",
    "mark",
)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class BigToM(ZooDataModule):
    """BigToM as `Triple` records, two per scenario.

    Args:
        path: `bigtom.csv` or its folder. None reads four scenarios that come with the package, the
            same for every split.
        questions: `belief` (what does the character believe) or `action` (what will they do).
        initial_belief: Show the story's fourth sentence, the first belief. The official evaluation
            has both forms; without it, the thought leaves it out too.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Triple,)

    def __init__(
        self,
        path: str | None = None,
        *,
        questions: Literal["belief", "action"] = "belief",
        initial_belief: bool = True,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.path = path
        self.questions = questions
        self.initial_belief = initial_belief

    def load(self, split: str) -> list[Record]:
        """Read the scenarios of a split, each in both conditions."""
        if self.path is None:
            rows = list(read_rows(SAMPLES / "bigtom.csv"))
        else:
            path = data_path(self.path)
            path = path if path.name.endswith((".csv", ".csv.gz")) else find(path, "bigtom.csv")
            rows = _share(list(read_rows(path)), split, path)
        return [triple for where, name, row in rows for triple in self._triples(row, where, name)]

    def _triples(self, row: dict[str, str], where: str, name: str) -> Iterator[Triple]:
        """Yield the two conditions of a scenario."""
        sentences = SENTENCE_END.split(row["story"])
        if len(sentences) != 5:
            raise InputError(f"{where}: field 'story' has {len(sentences)} sentences, expected 5")
        belief, event = sentences[3], sentences[4]
        if not self.initial_belief:
            del sentences[3]
        question = row[f"{self.questions} question"]
        aware, unaware = (
            row[f"{self.questions} answer {condition}"] for condition in ("aware", "not aware")
        )
        options = (aware, unaware) if _digest(row["story"])[0] % 2 else (unaware, aware)
        for kind, noticed, answer, effect in (
            ("true_belief", "aware of event", aware, "So the belief changes."),
            ("false_belief", "not aware of event", unaware, "So the belief stays the same."),
        ):
            seen = row[noticed]
            shown = [belief] if self.initial_belief else []
            yield Triple(
                query=f"{' '.join([*sentences, seen])}\n{question}\n"
                f"Choose one of the following:\na) {options[0]}\nb) {options[1]}",
                thought=" ".join([*shown, event, seen, effect]),
                answer=answer,
                kind=kind,
                id=f"{name} {kind}",
            )


def read_rows(path: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield (place for errors, id, row by field name) for each scenario of the file."""
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        try:
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=";"))]
        except csv.Error as error:
            raise InputError(f"{where}: invalid CSV: {error}") from error
        if len(cells) != len(FIELDS):
            absent = FIELDS[len(cells) :]
            missing = f"; the first missing one is {absent[0]!r}" if absent else ""
            raise InputError(
                f"{where}: {len(cells)} fields between semicolons, expected {len(FIELDS)}{missing}"
            )
        row = dict(zip(FIELDS, cells, strict=True))
        for name in FIELDS[:14]:
            if not row[name]:
                raise InputError(f"{where}: field {name!r} is empty")
        yield where, f"{path.name}:{number}", row


Row = tuple[str, str, dict[str, str]]


def _share(rows: list[Row], split: str, path: Path) -> list[Row]:
    """Return our share of the scenarios."""
    held = len(rows) // 5
    if held == 0:
        raise InputError(f"{path}: {len(rows)} scenarios are too few to split 60 / 20 / 20 percent")
    order = sorted(rows, key=lambda row: _digest(row[2]["story"]))
    shares = {"train": order[: -2 * held], "val": order[-2 * held : -held], "test": order[-held:]}
    return shares[split]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
