"""What talking methods say, its scores and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import torch

from zoo.plots import heat_map
from zoo.support.decisions import Decision
from zoo.support.labels import SUPPORT, Labels
from zoo.support.metrics import Answer, support_scores
from zoo.support.strategy_metrics import count_pairs, in_stages, transitions, upper_mass


@dataclass(frozen=True, slots=True)
class Said:
    """What a method did at one decision.

    Attributes:
        reply: What the supporter says.
        strategy: The strategy it chose, a name; empty if it chooses none.
        emotion: The emotion that it recognised, a name; empty if it recognises none.
        steps: (name, text) of everything else it did, in order, for samples and chat.
        words: All that the model wrote where it was asked for the reply.
        concepts: Tags inside the reply, in order.
        failed: Kinds of labels (`strategy`, `emotion`, ...) whose words meant no name, so that the
            fallback stands for them; `reply` if none stands where it was asked for.
        calls: Questions that the language model was asked.
        nll: Negative log-likelihood of the annotated reply's tokens in place of this one, nats.
        tokens: How many these are; 0 where it was not computed.
    """

    reply: str
    strategy: str = ""
    emotion: str = ""
    steps: tuple[tuple[str, str], ...] = ()
    words: str = ""
    concepts: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    calls: int = 1
    nll: float = 0.0
    tokens: int = 0


class Heard(NamedTuple):
    """A decision, what was said at it, and the annotated emotion; empty if there is none."""

    decision: Decision
    said: Said
    emotion: str


def said_scores(
    heard: Sequence[Heard], *, labels: Labels, topics: Sequence[str] = (), draws: int = 0
) -> dict[str, float]:
    """Return the scores of replies, by turn depth too, and how they were made.

    Those of `zoo.support.metrics.support_scores`; `strategy_failed`, `reply_failed` and others by
    the kinds of `Said.failed`, in percent; `calls` per reply; `emotion_accuracy` in percent;
    `upper_mass` of the strategies' transitions.

    Args:
        heard: The replies.
        labels: Names of strategies or acts.
        topics: Further names whose tags are taken off the replies.
        draws: Of the bootstrap over dialogues; 0 for no intervals.
    """
    labelled = all(decision.target.strategy for decision, _, _ in heard)
    answers = [
        Answer(
            dialogue=decision.dialogue,
            depth=decision.depth,
            gold_strategy=decision.target.strategy if labelled else "",
            gold_reply=decision.target.text,
            strategy=one.strategy,
            reply=one.reply,
            nll=one.nll,
            tokens=one.tokens,
        )
        for decision, one, _ in heard
    ]
    scores = support_scores(answers, labels=labels, topics=topics, draws=draws)
    scores = {name: v for name, v in scores.items() if "failed" not in name}
    kinds = {kind for _, one, _ in heard for kind in one.failed}
    for kind in sorted(kinds | {"strategy", "reply"}):
        share = sum(kind in one.failed for _, one, _ in heard) / len(heard)
        scores[f"{kind}_failed"] = 100 * share
    scores["calls"] = sum(one.calls for _, one, _ in heard) / len(heard)
    felt = [(gold, one.emotion) for _, one, gold in heard if gold and one.emotion]
    if felt:
        scores["emotion_accuracy"] = 100 * sum(g == n for g, n in felt) / len(felt)
    table = transitions(chains(heard, gold=False), ordered(labels, staged=True))
    if table.any():
        scores["upper_mass"] = upper_mass(table)
    return scores


def said_figures(heard: Sequence[Heard], labels: Labels, emotions: Labels) -> dict[str, Any]:
    """Return the strategies' confusion and transitions, and the emotions' confusion."""
    names, staged, drawn = labels.names, ordered(labels), {}
    golds = [(d.target.strategy, one.strategy) for d, one, _ in heard]
    golds = [(gold, name) for gold, name in golds if gold and name]
    if golds:
        counts = torch.tensor(count_pairs([g for g, _ in golds], [n for _, n in golds], names))
        drawn["confusion"] = _shares(counts, names, "strategies: rows are gold, columns chosen")
    for title, gold in (("transitions", False), ("transitions/gold", True)):
        table = torch.tensor(transitions(chains(heard, gold=gold), staged, rows=False))
        if table.any():
            drawn[title] = _shares(table, staged, f"{title}: from row to column, by stage")
    felt = [(gold, one.emotion) for _, one, gold in heard if gold and one.emotion]
    if felt:
        rows = emotions.names
        counts = torch.tensor(count_pairs([g for g, _ in felt], [n for _, n in felt], rows))
        drawn["emotions"] = _shares(counts, rows, "emotions: rows are gold, columns recognised")
    return drawn


def ordered(labels: Labels, *, staged: bool = False) -> list[str]:
    """Return ESConv's strategies by stage, then (unless `staged`) those that have none."""
    if labels is not SUPPORT:
        return list(labels.names)
    names = in_stages()
    return names if staged else [*names, *(n for n in labels.names if n not in names)]


def chains(heard: Sequence[Heard], *, gold: bool) -> list[list[str]]:
    """Return strategies in the order of each dialogue; a decision without a reply breaks it."""
    places = sorted(heard, key=lambda one: (one.decision.dialogue, one.decision.depth))
    found: list[list[str]] = []
    for _, group in groupby(places, key=lambda one: one.decision.dialogue):
        last = -2
        for decision, one, _ in group:
            if decision.depth != last + 1:
                found.append([])
            found[-1].append(decision.target.strategy if gold else one.strategy)
            last = decision.depth
    return found


def _shares(counts: torch.Tensor, names: Sequence[str], title: str) -> Any:
    shares = (counts / counts.sum(1, keepdim=True).clamp_min(1)).float()
    return heat_map(shares, names, names, title, "share of the row")
