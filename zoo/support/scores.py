"""Scores and figures of a set of answered decisions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any

import torch

from zoo.errors import SaidOnce
from zoo.metrics.records import RecordMetric
from zoo.plots import heat_map
from zoo.records import SUPPORTER, Turn
from zoo.support.decisions import Decision
from zoo.support.labels import SUPPORT, Labels
from zoo.support.metrics import SupportAnswer, support_scores
from zoo.support.reply import AnsweredDecision, SupportReply
from zoo.support.strategy_metrics import count_pairs, in_stages, transitions, upper_mass

log = logging.getLogger(__name__)
log.addFilter(SaidOnce())  # a validation comes again and again
STRATEGY_SCORES = {"accuracy", "proficiency", "weighted_f1", "bias"}


def reply_scores(
    answered: Sequence[AnsweredDecision],
    *,
    labels: Labels,
    topics: Sequence[str] = (),
    draws: int = 0,
) -> dict[str, float]:
    """Return the scores of replies, overall and by turn depth.

    Those of `zoo.support.metrics.support_scores`; `strategy_failed`, `reply_failed` and others by
    the kinds of `SupportReply.failed`, in percent; `calls` per reply; `emotion_accuracy` in
    percent; `upper_mass` of the strategies' transitions. Where some decisions have no annotated
    strategy, the scores of strategies are over the others.

    Args:
        answered: The decisions with their answers.
        labels: Names of strategies or acts.
        topics: Further names whose tags are taken off the replies.
        draws: Of the bootstrap over dialogues; 0 for no intervals.
    """
    answers = [
        SupportAnswer(
            dialogue=decision.dialogue,
            depth=decision.depth,
            gold_strategy=decision.target.strategy,
            gold_reply=decision.target.text,
            strategy=answer.strategy,
            reply=answer.reply,
            nll=answer.nll,
            tokens=answer.tokens,
        )
        for decision, answer, _ in answered
    ]
    scores = _support_scores(answers, labels, topics, draws)
    scores = {name: v for name, v in scores.items() if "failed" not in name}
    kinds = {kind for _, answer, _ in answered for kind in answer.failed}
    for kind in sorted(kinds | {"strategy", "reply"}):
        share = sum(kind in answer.failed for _, answer, _ in answered) / len(answered)
        scores[f"{kind}_failed"] = 100 * share
    scores["calls"] = sum(answer.calls for _, answer, _ in answered) / len(answered)
    emotions = emotion_pairs(answered)
    if emotions:
        right = sum(gold == recognised for gold, recognised in emotions)
        scores["emotion_accuracy"] = 100 * right / len(emotions)
    table = transitions(strategy_chains(answered, gold=False), ordered(labels, staged=True))
    if table.any():
        scores["upper_mass"] = upper_mass(table)
    return scores


def _support_scores(
    answers: Sequence[SupportAnswer], labels: Labels, topics: Sequence[str], draws: int
) -> dict[str, float]:
    """Return the scores of answers, those of strategies over the answers that have a right one."""
    labelled = [answer for answer in answers if answer.gold_strategy]
    if len(labelled) in (0, len(answers)):
        return support_scores(answers, labels=labels, topics=topics, draws=draws)
    counts = f"{len(labelled)} of {len(answers)}"
    log.warning("%s decisions have a %s; its scores are of these alone", counts, labels.kind)
    texts = [replace(answer, gold_strategy="") for answer in answers]
    named = support_scores(labelled, labels=labels, topics=topics, draws=draws)
    named = {name: v for name, v in named.items() if STRATEGY_SCORES & {*name.split("/")}}
    return named | support_scores(texts, labels=labels, topics=topics, draws=draws)


class ReplyScores(RecordMetric):
    """All scores of answered decisions; see `reply_scores`.

    Args:
        labels: Names of strategies or acts.
        topics: Further names whose tags are taken off the replies.
        draws: Of the bootstrap over dialogues; 0 for no intervals.
        options: Of `torchmetrics.Metric`.
    """

    def __init__(
        self, labels: Labels = SUPPORT, topics: Sequence[str] = (), draws: int = 0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.labels, self.topics, self.draws = labels, topics, draws

    def update(
        self, answered: Sequence[AnsweredDecision], ids: Sequence[str] | None = None
    ) -> None:
        """Add answered decisions; of those with one id the first."""
        rows = []
        for decision, answer, emotion in answered:
            place = {"dialogue": decision.dialogue, "depth": decision.depth}
            gold = {"text": decision.target.text, "strategy": decision.target.strategy}
            rows.append([place, gold, asdict(answer), emotion])
        self.keep(rows, ids)

    def compute(self) -> dict[str, float]:
        """Return the scores by name; nothing without decisions."""
        answered = [
            AnsweredDecision(
                Decision((), Turn(SUPPORTER, **gold), last=False, **place),
                SupportReply(**answer),
                emotion,
            )
            for place, gold, answer, emotion in self.kept()
        ]
        if not answered:
            return {}
        return reply_scores(answered, labels=self.labels, topics=self.topics, draws=self.draws)


def reply_figures(
    answered: Sequence[AnsweredDecision], labels: Labels, emotions: Labels
) -> dict[str, Any]:
    """Return the strategies' confusion and transitions, and the emotions' confusion."""
    staged, figures = ordered(labels), {}
    pairs = [(d.target.strategy, answer.strategy) for d, answer, _ in answered]
    pairs = [(gold, chosen) for gold, chosen in pairs if gold and chosen]
    if pairs:
        title = "strategies: rows are gold, columns chosen"
        figures["confusion"] = _confusion(pairs, labels.names, title)
    for title, gold in (("transitions", False), ("transitions/gold", True)):
        chains = strategy_chains(answered, gold=gold)
        table = torch.tensor(transitions(chains, staged, rows=False))
        if table.any():
            figures[title] = _shares(table, staged, f"{title}: from row to column, by stage")
    pairs = emotion_pairs(answered)
    if pairs:
        title = "emotions: rows are gold, columns recognised"
        figures["emotions"] = _confusion(pairs, emotions.names, title)
    return figures


def emotion_pairs(answered: Sequence[AnsweredDecision]) -> list[tuple[str, str]]:
    """Return (gold, recognised) emotions where there are both."""
    pairs = [(gold, answer.emotion) for _, answer, gold in answered]
    return [(gold, recognised) for gold, recognised in pairs if gold and recognised]


def ordered(labels: Labels, *, staged: bool = False) -> list[str]:
    """Return ESConv's strategies by stage, then (unless `staged`) those that have none."""
    if labels != SUPPORT:
        return list(labels.names)
    names = in_stages()
    return names if staged else [*names, *(n for n in labels.names if n not in names)]


def strategy_chains(answered: Sequence[AnsweredDecision], *, gold: bool) -> list[list[str]]:
    """Return the strategies of consecutive decisions; an unanswered decision starts a new list.

    Args:
        answered: The decisions with their answers, in any order.
        gold: Annotated strategies instead of the chosen ones.
    """
    in_order = sorted(answered, key=lambda a: (a.decision.dialogue, a.decision.depth))
    chains: list[list[str]] = []
    for _, dialogue in groupby(in_order, key=lambda a: a.decision.dialogue):
        last_depth = -2
        for decision, answer, _ in dialogue:
            if decision.depth != last_depth + 1:
                chains.append([])
            chains[-1].append(decision.target.strategy if gold else answer.strategy)
            last_depth = decision.depth
    return chains


def _confusion(pairs: Sequence[tuple[str, str]], names: Sequence[str], title: str) -> Any:
    golds, chosen = [gold for gold, _ in pairs], [name for _, name in pairs]
    return _shares(torch.tensor(count_pairs(golds, chosen, names)), names, title)


def _shares(counts: torch.Tensor, names: Sequence[str], title: str) -> Any:
    shares = (counts / counts.sum(1, keepdim=True).clamp_min(1)).float()
    return heat_map(shares, names, names, title, "share of the row")
