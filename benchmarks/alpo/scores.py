"""Scores of translated blocks against their references, and paired differences of two of them."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence

from sacrebleu.metrics import BLEU, CHRF

from zoo.methods.alpo.scoring import ReferenceScorer
from zoo.records import SubtitleBlock

RESAMPLES = 2000
Lines = tuple[str, ...]


def corpus_scores(blocks: Sequence[SubtitleBlock], found: Sequence[Lines]) -> dict[str, float]:
    """Return chrF and BLEU over all lines, in percent."""
    lines = [line for part in found for line in part]
    golds = [line for block in blocks for line in block.target or ()]
    chrf, bleu = CHRF(), BLEU()
    return {
        "chrf": round(chrf.corpus_score(lines, [golds]).score, 3),
        "bleu": round(bleu.corpus_score(lines, [golds]).score, 3),
    }


def of_lines(
    blocks: Sequence[SubtitleBlock], found: Sequence[Lines], score: Callable[[str, str], float]
) -> list[float]:
    """Return the mean over the lines of each block of their score against the reference."""
    return [
        round(statistics.mean(map(score, lines, block.target or ())), 3)
        for block, lines in zip(blocks, found, strict=True)
    ]


def line_chrf(line: str, gold: str) -> float:
    """Return a line's chrF in percent."""
    return float(CHRF().sentence_score(line, [gold]).score)


def line_reference(line: str, gold: str) -> float:
    """Return the score that a line has as a candidate, 0 to 100."""
    return ReferenceScorer().score(line, gold)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of paired differences and its 95 % bootstrap interval over blocks."""
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    rng = random.Random(0)
    means = sorted(statistics.mean(rng.choices(gaps, k=len(gaps))) for _ in range(RESAMPLES))
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]
    return statistics.mean(gaps), low, high
