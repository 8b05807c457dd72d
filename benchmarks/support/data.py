"""Decisions and dialogues of the emotional support benchmark: the same for all rows and seeds.

ESConv is split as on the authors' hub page (`train.txt`, `valid.txt`, `test.txt`: 910 / 195 / 195
dialogues, 2,801 decisions in test). Papers that test on the authors' `testWithStrategy_short.tsv`
have another split: a tenth of that file is in this test split, two thirds are in this train split.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import datamodules
from benchmarks.support.table import SETS
from benchmarks.trials import data_path
from zoo.records import Dialogue
from zoo.support.decisions import Decision, decisions
from zoo.support.encoder import has_strategies


def read(name: str, split: str) -> list[Any]:
    """Return the dialogues of a set."""
    module = getattr(datamodules, SETS[name].module)(data_path(SETS[name].folder))
    records: list[Any] = module.records(split)
    return records


def tested(name: str, options: argparse.Namespace) -> list[Decision]:
    """Return the decisions that every row answers; those of a dialogue stand together.

    Short dialogues come first: what is decoded together is of one length, or else mostly padding.
    """
    rng, records = random.Random(0), read(name, "test")
    by_dialogue: list[list[Decision]] = []
    for record in rng.sample(records, min(options.dialogues, len(records))):
        points = decisions(record, need_strategies=has_strategies(record))
        drawn = rng.sample(range(len(points)), min(options.decisions, len(points)))
        by_dialogue.append([points[i] for i in sorted(drawn)])
    by_dialogue.sort(key=lambda part: sum(len(turn.text) for turn in part[-1].turns))
    return [decision for part in by_dialogue for decision in part]


def taught(options: argparse.Namespace) -> list[Dialogue]:
    """Return random training dialogues with as many decisions as the steps take, the last cut."""
    left, records = options.steps * options.per_step, read("esconv", "train")
    dialogues = []
    for record in random.Random(0).sample(records, len(records)):
        points = decisions(record)[:left]
        left -= len(points)
        if points:
            turns = record.turns[: len(points[-1].turns) + 1]
            dialogues.append(replace(record, turns=turns))
    if left:
        sys.exit(f"--steps {options.steps}: the training dialogues lack {left} decisions for it")
    return dialogues


def most_frequent(options: argparse.Namespace) -> str:
    """Return the strategy that is used most in training."""
    used = Counter(
        point.target.strategy for dialogue in taught(options) for point in decisions(dialogue)
    )
    return used.most_common(1)[0][0]
