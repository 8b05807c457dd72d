"""Scores of single decisions, so that rows can be compared on what both answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zoo.metrics.text import rouge_l, tokenize
from zoo.support.decisions import Decision

Written = Mapping[str, Sequence[str]]  # decision -> strategy, reply, all words


def item_scores(replies: Written, asked: Sequence[Decision]) -> dict[str, dict[str, float]]:
    """Return score -> decision -> value in percent: R-L of the reply, and the strategy's hits.

    Decisions whose dialogue has no strategies are left out of the hits.
    """
    gold = {decision.id: decision.target for decision in asked}
    return {
        "rouge_l": {
            name: round(rouge_l(tokenize(gold[name].text), tokenize(reply)), 3)
            for name, (_, reply, *_) in replies.items()
        },
        "accuracy": {
            name: 100.0 * (strategy == gold[name].strategy)
            for name, (strategy, *_) in replies.items()
            if gold[name].strategy
        },
    }
