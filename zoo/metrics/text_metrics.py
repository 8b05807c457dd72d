"""Metrics of replies beside their references; the equations are those of `zoo.metrics.text`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from zoo.metrics.records import RecordMetric, number
from zoo.metrics.text import BETA, bleu, distinct, meteor, rouge_l, tokenize


class TextMetric(RecordMetric):
    """Base of scores of replies, each beside one reference."""

    def update(
        self,
        replies: Sequence[str],
        references: Sequence[str],
        ids: Sequence[str] | None = None,
    ) -> None:
        """Keep the tokens of texts.

        Args:
            replies: The texts that are scored.
            references: What each is compared with.
            ids: Names of the replies; one that comes twice counts once.
        """
        pairs = zip(references, replies, strict=True)
        self.keep([[tokenize(reference), tokenize(reply)] for reference, reply in pairs], ids)


class CorpusBleu(TextMetric):
    """B-n in percent, equation (1).

    Differs from `torchmetrics.text.BLEUScore`, which splits at spaces and is 0 where an order has
    no match, smoothed or not.

    Args:
        n: Longest n-gram, at most 4.
        options: Of `torchmetrics.Metric`.
    """

    def __init__(self, n: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.n = n

    def compute(self) -> Tensor:
        """Return B-n; 0 without replies."""
        pairs = self.kept()
        return number(bleu([r for r, _ in pairs], [h for _, h in pairs], self.n) if pairs else 0.0)


class RougeL(TextMetric):
    """Mean R-L in percent, equation (2).

    Differs from `torchmetrics.text.ROUGEScore`, which has beta = 1 and drops punctuation.

    Args:
        beta: Weight of recall.
        options: Of `torchmetrics.Metric`.
    """

    def __init__(self, beta: float = BETA, **options: Any) -> None:
        super().__init__(**options)
        self.beta = beta

    def compute(self) -> Tensor:
        """Return the mean R-L; NaN without replies."""
        scores = [rouge_l(reference, reply, self.beta) for reference, reply in self.kept()]
        return number(sum(scores) / len(scores) if scores else math.nan)


class Meteor(TextMetric):
    """Mean METEOR in percent, equation (3); torchmetrics has none."""

    def compute(self) -> Tensor:
        """Return the mean METEOR; NaN without replies."""
        scores = [meteor(reference, reply) for reference, reply in self.kept()]
        return number(sum(scores) / len(scores) if scores else math.nan)


class Distinct(RecordMetric):
    """Distinct-n in percent, equation (4); torchmetrics has none.

    Args:
        n: Words of an n-gram.
        options: Of `torchmetrics.Metric`.

    Example:
        >>> Distinct(1)(["Work, work and rest."])
        tensor(83.3333, dtype=torch.float64)
    """

    def __init__(self, n: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.n = n

    def update(self, replies: Sequence[str], ids: Sequence[str] | None = None) -> None:
        """Keep the tokens of replies; of those with one id the first."""
        self.keep([tokenize(reply) for reply in replies], ids)

    def compute(self) -> Tensor:
        """Return Distinct-n of all replies together; 0 without n-grams."""
        return number(distinct(self.kept(), self.n))


class ReplyPerplexity(RecordMetric):
    """PPL, equation (5), of replies whose likelihoods are known; not in percent.

    `torchmetrics.text.Perplexity` is the same number from logits `(B, L, V)`, which are never kept
    here.

    Example:
        >>> ReplyPerplexity()([3.0, 1.0], [3, 1])
        tensor(2.7183, dtype=torch.float64)
    """

    def update(
        self, nll: Sequence[float], tokens: Sequence[int], ids: Sequence[str] | None = None
    ) -> None:
        """Add replies.

        Args:
            nll: Negative log-likelihood of each gold reply, summed over its tokens, in nats.
            tokens: Number of tokens of each gold reply.
            ids: Names of the replies; one that comes twice counts once.
        """
        self.keep([list(pair) for pair in zip(nll, tokens, strict=True)], ids)

    def compute(self) -> Tensor:
        """Return exp(nats / tokens); NaN without tokens."""
        nats, tokens = (sum(values) for values in zip((0.0, 0), *self.kept(), strict=True))
        return number(math.exp(nats / tokens) if tokens else math.nan)
