"""Overlap of replies with references, and how varied they are.

    (1)  B-n = BP exp(mean_{k<=n} log p_k),  BP = 1 if c > r else exp(1 - r / c)
    (2)  R-L = (1 + beta^2) R P / (R + beta^2 P),  R = LCS / |ref|,  P = LCS / |hyp|
    (3)  METEOR = F (1 - 0.5 (chunks / matches)^3),  F = 10 P R / (R + 9 P)
    (4)  Distinct-n = distinct n-grams / n-grams, over all hypotheses
    (5)  PPL = exp(mean negative log-likelihood of the gold tokens)

Words are lower-case NLTK tokens, as in ESConv's own evaluation. There the sentences are first cut
by Punkt, whose English parameters are a download; here Punkt runs without trained parameters. On
the 5,617 supporter turns of ESConv's valid and test files that gives other tokens in 20 turns
(after `etc.`, `e.g.`, `ok.`); the word tokeniser alone would in 2,012.

BLEU and METEOR are NLTK's. Scores are in percent. `zoo.metrics.text_metrics` has a class of each,
and says how torchmetrics' score of the same name differs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from nltk.stem.porter import PorterStemmer
from nltk.tokenize import NLTKWordTokenizer
from nltk.tokenize.punkt import PunktSentenceTokenizer
from nltk.translate.bleu_score import (
    Fraction,
    SmoothingFunction,
    brevity_penalty,
    modified_precision,
)
from nltk.translate.meteor_score import single_meteor_score
from numpy.typing import NDArray

Tokens = Sequence[str]
Floats = NDArray[np.float64]

ORDER = 4  # longest n-gram
BETA = 1.2  # of ROUGE-L in ESConv's evaluation; which one the papers' tables used is unknown


@functools.lru_cache(maxsize=1)
def _tokenizers() -> tuple[PunktSentenceTokenizer, NLTKWordTokenizer]:
    return PunktSentenceTokenizer(), NLTKWordTokenizer()


def tokenize(text: str) -> list[str]:
    """Return the lower-case tokens of a text.

    Example:
        >>> tokenize("I can't. Why?")
        ['i', 'ca', "n't", '.', 'why', '?']
    """
    sentences, words = _tokenizers()
    return [word for part in sentences.tokenize(text.lower()) for word in words.tokenize(part)]


def bleu_counts(reference: Tokens, hypothesis: Tokens) -> Floats:
    """Return what a sample adds to corpus BLEU: matches, n-grams of order 1..4, both lengths.

    `(2 * ORDER + 2,)`: ORDER matches, ORDER numbers of n-grams in the hypothesis, |hyp|, |ref|. A
    hypothesis shorter than n counts one n-gram, as NLTK counts.
    """
    parts = [modified_precision([reference], hypothesis, n) for n in range(1, ORDER + 1)]
    matches = [part.numerator for part in parts]
    numbers = [part.denominator for part in parts]
    return np.array([*matches, *numbers, len(hypothesis), len(reference)], dtype=np.float64)


def bleu_of(counts: Floats, n: int) -> float:
    """Return B-n in percent, equation (1), of summed `bleu_counts`.

    Smoothing is NLTK's method 3: the first order without matches counts 1/2 of one, the next 1/4.
    """
    total = [int(count) for count in counts]
    if total[0] == 0:
        return 0.0
    precisions = [Fraction(total[k], total[ORDER + k], _normalize=False) for k in range(n)]
    smooth = SmoothingFunction().method3(precisions)
    penalty = brevity_penalty(total[-1], total[-2])
    return 100 * penalty * math.exp(sum(math.log(p) for p in smooth) / n)


def bleu(references: Sequence[Tokens], hypotheses: Sequence[Tokens], n: int) -> float:
    """Return corpus B-n in percent, one reference for each hypothesis.

    Example:
        >>> round(bleu(["i feel sad today".split()], ["i feel very sad".split()], 2), 6)
        50.0
    """
    pairs = zip(references, hypotheses, strict=True)
    return bleu_of(np.sum([bleu_counts(r, h) for r, h in pairs], axis=0), n)


def rouge_l(reference: Tokens, hypothesis: Tokens, beta: float = BETA) -> float:
    """Return R-L in percent, equation (2); 0 if nothing is common."""
    common = lcs(reference, hypothesis)
    if common == 0:
        return 0.0
    recall, precision = common / len(reference), common / len(hypothesis)
    return 100 * (1 + beta**2) * recall * precision / (recall + beta**2 * precision)


def lcs(one: Tokens, other: Tokens) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        above = 0  # the row before, one place to the left
        for j, candidate in enumerate(other, start=1):
            above, row[j] = row[j], above + 1 if word == candidate else max(row[j], row[j - 1])
    return row[-1]


class _NoSynonyms:
    """Stands for WordNet, whose data is a download."""

    def synsets(self, word: str) -> list[str]:
        """Return no meaning of any word."""
        return []


@functools.lru_cache(maxsize=1)
def _stemmer() -> PorterStemmer:
    return PorterStemmer()


def meteor(reference: Tokens, hypothesis: Tokens) -> float:
    """Return METEOR in percent, equation (3).

    NLTK's alignment of equal words and Porter stems, without synonyms; it is not METEOR 1.5.
    """
    return 100 * single_meteor_score(
        reference,
        hypothesis,
        stemmer=_stemmer(),
        wordnet=_NoSynonyms(),
    )


def grams(tokens: Tokens, n: int, *, drop_last: bool = False) -> list[tuple[str, ...]]:
    """Return the n-grams of a text in order, the last one left out if `drop_last`."""
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1 - drop_last)]


def distinct(hypotheses: Sequence[Tokens], n: int, *, drop_last: bool = False) -> float:
    """Return Distinct-n in percent, equation (4); 0 without n-grams.

    Args:
        hypotheses: All of them.
        n: Words of an n-gram.
        drop_last: Leave out the last n-gram of every hypothesis, as ESConv's own evaluation does.

    Example:
        >>> round(distinct(["a a b".split()], 1), 2)
        66.67
        >>> distinct(["a a b".split()], 1, drop_last=True)
        50.0
    """
    ngrams = [gram for words in hypotheses for gram in grams(words, n, drop_last=drop_last)]
    return 100 * len(set(ngrams)) / len(ngrams) if ngrams else 0.0
