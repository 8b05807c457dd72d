"""The evaluation of emotional support replies in one call: strategies, texts, turn depth.

Every score comes with a 95 percent interval over dialogues, since turns of one dialogue are not
independent: percentiles of a bootstrap that draws whole dialogues with replacement. What a dialogue
adds to each score is computed once and only summed again for each draw. Distinct-n has a jackknife
interval instead: a dialogue drawn twice repeats its n-grams, which would push every draw below the
score itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.metrics.records import RecordMetric
from zoo.metrics.text import Tokens, bleu_counts, bleu_of, grams, meteor, rouge_l, tokenize
from zoo.support.cider import CiderWeights
from zoo.support.labels import SUPPORT, Labels
from zoo.support.strategy_metrics import (
    Floats,
    count_pairs,
    depth_bins,
    parse_labels,
    strategy_scores,
)
from zoo.support.tags import strip_tags

Ints = NDArray[np.int64]

HALFWAY = 7  # decisions; ESConv has 13.6 supporter turns per dialogue
ORDERS = (1, 2, 4)  # of BLEU
VARIED = (1, 2)  # of Distinct-n
MEANS = ("rouge_l", "meteor", "cider", "cider_d", "length")
LEVEL = 0.95
NORMAL = 1.96  # standard deviations to each side at that level


@dataclass(frozen=True, slots=True)
class SupportAnswer:
    """What was right and what was predicted at one decision point.

    Attributes:
        dialogue: Name of the dialogue.
        depth: Number of the decision in its dialogue, from 0.
        gold_strategy: The right strategy, or an alias of it; empty if the data has none.
        gold_reply: The right reply.
        strategy: The predicted strategy: a name or a model's words; empty if none is predicted.
        reply: The predicted reply; tags are taken off.
        nll: Negative log-likelihood of the gold reply in nats, summed over its tokens.
        tokens: Number of tokens that `nll` sums over; 0 if it was not computed.
    """

    dialogue: str
    depth: int
    gold_strategy: str
    gold_reply: str
    strategy: str
    reply: str
    nll: float = 0.0
    tokens: int = 0


def support_scores(
    answers: Sequence[SupportAnswer],
    *,
    labels: Labels = SUPPORT,
    topics: Sequence[str] = (),
    bins: Mapping[str, tuple[int, int | None]] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """Return all scores, each `name` with `name/low` and `name/high`; `early/name` for a bin.

    In percent: `accuracy, proficiency, weighted_f1, failed` (predicted strategies that are no
    name), `bleu_1, bleu_2, bleu_4, rouge_l, meteor, distinct_1, distinct_2, cider`. As they are:
    `bias`, `cider_d` (0 to 10), `length` (words of a reply), `perplexity`, `answers`, `dialogues`.
    One dialogue tells nothing of how dialogues differ: then (also of a bin) there is no interval.
    Without gold strategies (or without any prediction) the strategy scores are left out, and
    without `tokens` perplexity.

    Args:
        answers: One for each decision point.
        labels: The names of strategies, or of acts.
        topics: Concepts beyond the known names whose tags are taken off the replies.
        bins: Bins of turn depth, from `depth_bins`; None for early and late.
        draws: How often to draw the dialogues; 0 for no intervals.
        seed: Seed of the draws.

    Raises:
        InputError: A gold strategy is no name.
        ValueError: There are no answers, or only some have a gold strategy.
    """
    if not answers:
        raise ValueError("no answers to score")
    parts = _Parts(answers, labels, topics)
    result = _with_intervals(parts, np.arange(len(answers)), draws, seed)
    depths = np.array([answer.depth for answer in answers])
    for title, (start, stop) in (depth_bins(HALFWAY) if bins is None else bins).items():
        inside = np.flatnonzero((depths >= start) & (depths < (stop or depths.max() + 1)))
        if len(inside):
            scores = _with_intervals(parts, inside, draws, seed)
            result |= {f"{title}/{name}": value for name, value in scores.items()}
    return result


class SupportScores(RecordMetric):
    """All scores of emotional support replies; see `support_scores`.

    Args:
        labels: The names of strategies, or of acts.
        topics: Concepts beyond the known names whose tags are taken off the replies.
        draws: Of the bootstrap over dialogues; 0 for no intervals.
        options: Of `torchmetrics.Metric`.
    """

    def __init__(
        self,
        labels: Labels = SUPPORT,
        topics: Sequence[str] = (),
        draws: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.labels, self.topics, self.draws = labels, topics, draws

    def update(self, answers: Sequence[SupportAnswer], ids: Sequence[str] | None = None) -> None:
        """Add answers; of those with one id the first."""
        self.keep([asdict(answer) for answer in answers], ids)

    def compute(self) -> dict[str, float]:
        """Return the scores by name; nothing without answers."""
        answers = [SupportAnswer(**row) for row in self.kept()]
        if not answers:
            return {}
        return support_scores(answers, labels=self.labels, topics=self.topics, draws=self.draws)


class _Parts:
    """What each answer adds to each score."""

    def __init__(
        self, answers: Sequence[SupportAnswer], labels: Labels, topics: Sequence[str]
    ) -> None:
        self.dialogue = [answer.dialogue for answer in answers]
        references = [tokenize(answer.gold_reply) for answer in answers]
        replies = [tokenize(strip_tags(answer.reply, topics)) for answer in answers]
        self.replies: list[list[str]] = replies
        pairs = list(zip(references, replies, strict=True))
        self.bleu = np.stack([bleu_counts(r, h) for r, h in pairs])
        weigh = CiderWeights(references)
        self.means = np.array([_sample_scores(r, h, weigh) for r, h in pairs])
        self.nll = np.array([(answer.nll, answer.tokens) for answer in answers])
        self.pairs: Floats | None = None
        self.failed: Floats | None = None
        named = [bool(answer.gold_strategy.strip()) for answer in answers]
        if any(named) and not all(named):
            raise ValueError(f"answer {named.index(False)} has no gold strategy, others have one")
        if all(named) and any(answer.strategy.strip() for answer in answers):
            self._compare([(a.gold_strategy, a.strategy, a.dialogue) for a in answers], labels)

    def _compare(self, strategies: Sequence[tuple[str, str, str]], labels: Labels) -> None:
        rows, failed = [], []
        for right, words, where in strategies:
            parsed, share = parse_labels([words], labels)
            rows.append(count_pairs([labels.canonical(right, where)], parsed, labels.names))
            failed.append(share)
        self.pairs, self.failed = np.stack(rows), np.array(failed)


def _sample_scores(reference: Tokens, reply: Tokens, weigh: CiderWeights) -> list[float]:
    return [
        rouge_l(reference, reply),
        meteor(reference, reply),
        weigh.score(reference, reply),
        weigh.score_d(reference, reply),
        float(len(reply)),
    ]


def _with_intervals(parts: _Parts, inside: Ints, draws: int, seed: int) -> dict[str, float]:
    """Return the scores of some answers, with their intervals."""
    names = [parts.dialogue[i] for i in inside]
    place = {name: d for d, name in enumerate(dict.fromkeys(names))}
    group = np.array([place[name] for name in names])
    size = len(place)
    draws = draws if size > 1 else 0
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64)
    everything = np.concatenate([np.ones((1, size)), drawn])  # the first row: each one once
    rows = _scores(parts, inside, group, everything)
    low, high = 50 * (1 - LEVEL), 50 * (1 + LEVEL)
    result: dict[str, float] = {"answers": len(inside), "dialogues": size}
    for name, values in rows.items():
        result[name] = float(values[0])
        if draws:
            result[f"{name}/low"] = float(np.percentile(values[1:], low))
            result[f"{name}/high"] = float(np.percentile(values[1:], high))
    for n in VARIED:
        score, spread = _distinct([parts.replies[i] for i in inside], group, n)
        result[f"distinct_{n}"] = score
        if draws:
            result[f"distinct_{n}/low"] = score - NORMAL * spread
            result[f"distinct_{n}/high"] = score + NORMAL * spread
    return result


def _scores(parts: _Parts, inside: Ints, group: Ints, drawn: Floats) -> dict[str, Floats]:
    """Return each score in R bootstrap samples, `(R,)`.

    A row of `drawn`, `(R, D)`, holds how many times each of the D dialogues is in a sample.
    """

    def summed(values: Floats) -> Floats:
        per_dialogue = np.zeros((drawn.shape[1], *values.shape[1:]))
        np.add.at(per_dialogue, group, values[inside])
        return np.tensordot(drawn, per_dialogue, 1)

    number = summed(np.ones(len(parts.dialogue)))
    rows: dict[str, Floats] = {}
    if parts.pairs is not None and parts.failed is not None:
        rows |= strategy_scores(summed(parts.pairs))
        rows["failed"] = 100 * summed(parts.failed) / number
    counts = summed(parts.bleu)
    for n in ORDERS:
        rows[f"bleu_{n}"] = np.array([bleu_of(row, n) for row in counts])
    means = summed(parts.means) / number[:, None]
    rows |= {name: means[:, i] for i, name in enumerate(MEANS)}
    nll = summed(parts.nll)
    if nll[:, 1].all():
        rows["perplexity"] = np.exp(nll[:, 0] / nll[:, 1])
    return rows


def _distinct(replies: Sequence[Tokens], group: Ints, n: int) -> tuple[float, float]:
    """Return Distinct-n in percent and its jackknife standard error over dialogues."""
    owners: dict[tuple[str, ...], set[int]] = {}
    size = int(group.max()) + 1
    total, own = np.zeros(size), np.zeros(size)  # n-grams, and those of this dialogue alone
    for words, dialogue in zip(replies, group.tolist(), strict=True):
        for gram in grams(words, n):
            owners.setdefault(gram, set()).add(dialogue)
            total[dialogue] += 1
    for dialogues in owners.values():
        if len(dialogues) == 1:
            own[min(dialogues)] += 1
    score = len(owners) / max(1.0, total.sum())
    without = (len(owners) - own) / np.maximum(1.0, total.sum() - total)
    spread = np.sqrt((size - 1) / size * ((without - without.mean()) ** 2).sum())
    return 100 * score, 100 * float(spread)
