"""CIDEr: agreement with references on the n-grams that are rare among all references.

Vedantam et al., CVPR 2015; one reference for each hypothesis here.

    (1)  g_k(s) = count of n-gram k in s * log(N / max(1, df_k)),  df over the N references
    (2)  CIDEr_n = g(hyp) . g(ref) / (|g(hyp)| |g(ref)|);  CIDEr = mean over n = 1..4
    (3)  CIDEr-D_n = sum_k min(g_k(hyp), g_k(ref)) g_k(ref) / (|g(hyp)| |g(ref)|)
                     * exp(-(words of hyp - words of ref)^2 / (2 sigma^2)), sigma = 6, times 10

Deviates: words are not stemmed, as in the code that is commonly used; CIDEr is not scaled by 10.
Which scale the papers' tables have is unknown: compare ratios only.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from zoo.metrics.records import number
from zoo.metrics.text import ORDER, Tokens, grams
from zoo.metrics.text_metrics import TextMetric

Weights = list[dict[tuple[str, ...], float]]

SIGMA = 6.0


class CiderWeights:
    """CIDEr of replies against a fixed set of references, which gives the n-grams' weights.

    Args:
        references: Tokens of all references.
    """

    def __init__(self, references: Sequence[Tokens]) -> None:
        self.found = Counter(
            gram
            for words in references
            for gram in {g for n in range(1, ORDER + 1) for g in grams(words, n)}
        )
        self.log_size = math.log(len(references)) if references else 0.0

    def weights(self, words: Tokens) -> Weights:
        """Return g of equation (1) for each n."""
        return [
            {
                gram: count * (self.log_size - math.log(max(1, self.found[gram])))
                for gram, count in Counter(grams(words, n)).items()
            }
            for n in range(1, ORDER + 1)
        ]

    def score(self, reference: Tokens, hypothesis: Tokens) -> float:
        """Return CIDEr of equation (2) in percent."""
        pairs = zip(self.weights(hypothesis), self.weights(reference), strict=True)
        return 100 * sum(_cosine(h, r, clip=False) for h, r in pairs) / ORDER

    def score_d(self, reference: Tokens, hypothesis: Tokens) -> float:
        """Return CIDEr-D of equation (3), between 0 and 10."""
        pairs = zip(self.weights(hypothesis), self.weights(reference), strict=True)
        gap = len(hypothesis) - len(reference)
        near = math.exp(-(gap**2) / (2 * SIGMA**2))
        return 10 * near * sum(_cosine(h, r, clip=True) for h, r in pairs) / ORDER


class Cider(TextMetric):
    """Mean CIDEr in percent, equation (2), which torchmetrics lacks."""

    def compute(self) -> Tensor:
        """Return the mean over the replies; their references give the weights."""
        pairs = self.kept()
        score = CiderWeights([reference for reference, _ in pairs]).score
        return number(sum(score(*pair) for pair in pairs) / len(pairs) if pairs else math.nan)


def _cosine(
    h: dict[tuple[str, ...], float], r: dict[tuple[str, ...], float], *, clip: bool
) -> float:
    """Return the cosine of two sparse vectors; `clip` cuts the hypothesis at the reference."""
    norm = math.sqrt(sum(v * v for v in h.values())) * math.sqrt(sum(v * v for v in r.values()))
    common = ((h[gram], weight) for gram, weight in r.items() if gram in h)
    dot = sum((min(a, weight) if clip else a) * weight for a, weight in common)
    return dot / norm if norm else 0.0
