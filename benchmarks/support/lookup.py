"""Planners that read no words: what a planner has to beat, on all of ESConv's test decisions.

    python -m benchmarks.support.lookup

Counts of the training dialogues say which strategy comes most often after the last one at this
depth of the dialogue (the number of decisions before), after the last one at any depth, or at all;
`uniform` draws. Also on the decisions of the committed tables, and how far from 0 the bias of a
uniform planner, which has no preference, is by the number of decisions alone. Needs `ZOO_DATA`.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from benchmarks.support import data
from benchmarks.support.table import LOOKUP
from benchmarks.trials import markdown
from zoo.records import SUPPORTER
from zoo.support.decisions import Decision, decisions
from zoo.support.labels import STRATEGIES
from zoo.support.metrics import SupportAnswer, support_scores
from zoo.support.strategy_metrics import bias, count_pairs

SIZES = (30, 90, 300, 1000)  # decisions
DRAWS = 1000
NO_PREFERENCE = 2.6  # nearly the largest B, sqrt(7): one strategy is preferred to all others
Plans = list[str]


def last_strategy(decision: Decision) -> str:
    """Return the supporter's last strategy; empty before the first."""
    said = (turn.strategy for turn in reversed(decision.turns) if turn.speaker == SUPPORTER)
    return next(said, "")


def everywhere(decision: Decision) -> str:
    """Return the same for all decisions."""
    return ""


KEYS: dict[str, tuple[Callable[[Decision], Hashable], ...]] = {  # one that is new gives way
    LOOKUP: (lambda d: (last_strategy(d), d.depth), last_strategy, everywhere),
    "last strategy": (last_strategy, everywhere),
    "most frequent strategy": (everywhere,),
}


def look_up(row: str, taught: Sequence[Decision], asked: Sequence[Decision]) -> Plans:
    """Return the strategy that training used most where a key is the same, of equal ones the first.

    Args:
        row: One of `KEYS`.
        taught: What is counted.
        asked: What is planned; without strategies all have the empty one before.
    """
    plans = {}
    for key in reversed(KEYS[row]):
        counts: dict[Hashable, Counter[str]] = defaultdict(Counter)
        for decision in taught:
            counts[key(decision)][decision.target.strategy] += 1
        for i, decision in enumerate(asked):
            if used := counts.get(key(decision)):
                plans[i] = max(STRATEGIES, key=used.__getitem__)
    return [plans[i] for i in range(len(asked))]


def points(split: str) -> list[Decision]:
    """Return the decisions of all dialogues of ESConv's split."""
    return [point for record in data.read("esconv", split) for point in decisions(record)]


def uniform(number: int, seed: int = 0) -> Plans:
    """Return strategies that are drawn."""
    return list(np.random.default_rng(seed).choice(STRATEGIES, number))


def scores(asked: Sequence[Decision], plans: Plans) -> list[str]:
    """Return Acc, Q and B with 95 % intervals over dialogues."""
    answers = [
        SupportAnswer(d.dialogue, d.depth, d.target.strategy, "", plan, "")
        for d, plan in zip(asked, plans, strict=True)
    ]
    found = support_scores(answers, bins={}, draws=DRAWS)
    cells = []
    for name, decimals in (("accuracy", 1), ("proficiency", 1), ("bias", 2)):
        values = (found[name + end] for end in ("", "/low", "/high"))
        cells.append("{} ({} to {})".format(*(f"{value:.{decimals}f}" for value in values)))
    return cells


def noise(asked: Sequence[Decision], size: int) -> list[str]:
    """Return the median B of a uniform planner in draws of decisions, and how often it is large."""
    gold, rng = np.array([d.target.strategy for d in asked]), np.random.default_rng(0)
    drawn = (rng.choice(gold, size, replace=False) for _ in range(DRAWS))
    tables = [count_pairs(list(part), list(rng.choice(STRATEGIES, size))) for part in drawn]
    found = bias(np.stack(tables))
    large = 100 * float((found > NO_PREFERENCE).mean())
    return [str(size), f"{float(np.median(found)):.2f}", f"{large:.0f}"]


def table() -> list[str]:
    """Return the tables as Markdown."""
    taught, everything, lines = points("train"), points("test"), list[str]()
    for dialogues in (30, 90, 0):
        options = argparse.Namespace(dialogues=dialogues, decisions=1)
        asked = data.tested("esconv", options) if dialogues else everything
        plans = {row: look_up(row, taught, asked) for row in KEYS} | {
            "uniform": uniform(len(asked))
        }
        rows = [[row, *scores(asked, names)] for row, names in plans.items()]
        lines += ["", f"esconv, {len(asked)} decisions", ""]
        lines += markdown(["row", "Acc", "Q", "B"], rows)
    titles = [
        "decisions",
        "median B of a uniform planner",
        f"percent of draws above {NO_PREFERENCE}",
    ]
    return [*lines[1:], "", *markdown(titles, [noise(everything, size) for size in SIZES])]


if __name__ == "__main__":
    print("\n".join(table()))
