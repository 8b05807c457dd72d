"""Scores of planned strategies, with what each test dialogue adds to them.

Shapes: D dialogues, K strategies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from zoo.prompts.option_tokens import letter
from zoo.support.decisions import Decision
from zoo.support.labels import STRATEGIES
from zoo.support.strategy_metrics import Floats, accuracy, bias, count_pairs, proficiency

SCORES: dict[str, Callable[[Floats], Floats]] = {
    "accuracy": lambda counts: 100 * accuracy(counts),  # percent
    "proficiency": lambda counts: 100 * proficiency(counts),  # macro-F1, percent
    "bias": bias,  # 0 to sqrt(K - 1)
}
FEWEST = 0.01  # share of all plans from which on a strategy counts as one that is named


def by_dialogue(asked: Sequence[Decision], plans: Sequence[str]) -> dict[str, str]:
    """Return the letters of the strategies, A to H, of each dialogue's decisions in order."""
    found: dict[str, str] = {}
    for decision, plan in zip(asked, plans, strict=True):
        found[decision.dialogue] = found.get(decision.dialogue, "") + letter(STRATEGIES.index(plan))
    return found


def of_plans(found: Mapping[str, str], gold: Mapping[str, str]) -> dict[str, Any]:
    """Return scores of all decisions, `metrics`, and their pseudo-values by dialogue, `items`.

    Args:
        found: Planned strategies; see `by_dialogue`.
        gold: Annotated strategies of the same decisions.
    """
    counts = np.stack([_counts(gold[name], found[name]) for name in found])
    total = counts.sum(0)
    shares = total.sum(0) / total.sum()
    metrics = {name: round(float(score(total)), 3) for name, score in SCORES.items()}
    values = {name: pseudo_values(counts, score) for name, score in SCORES.items()}
    return {
        "metrics": metrics | {"named": int((shares >= FEWEST).sum())},
        "items": {
            name: {d: round(v, 2) for d, v in zip(found, each.tolist(), strict=True)}
            for name, each in values.items()
        },
    }


def pseudo_values(counts: Floats, score: Callable[[Floats], Floats]) -> Floats:
    """Return the jackknife's pseudo-values of a score, a dialogue each.

    D times the score of all D dialogues minus D - 1 times the score without this one (Tukey 1958).
    Their mean is the score, without the bias of order 1 / D, and their t interval that of a score
    over dialogues, also where it is no mean. Differences of two rows are paired by dialogue.

    Args:
        counts: Table of each dialogue; see `zoo.support.strategy_metrics.count_pairs`.
        score: From tables `(..., K, K)` to scores `(...)`.
    """
    total, size = counts.sum(0), len(counts)
    return size * score(total) - (size - 1) * score(total - counts)


def _counts(gold: str, found: str) -> Floats:
    names = [letter(i) for i in range(len(STRATEGIES))]
    return count_pairs(list(gold), list(found), names)
