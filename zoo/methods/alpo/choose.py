"""Which candidates of a block are preferred to which, how much each pair counts, and the prefix.

All of it is plain arithmetic over scores: no tensors, no model.

    chosen     uniform among the three best
    rejected   the third-worst; if that is the chosen one, the worst other one
    gate       more than 3 candidates, range > 5, r(chosen) > r(rejected)
    w_i        gate_i n_i / sum_j n_j             n_i candidates, j over all segments of the block
    beta_i     gap_i / max_{open j} gap_j         gap = r(chosen) - r(rejected)
    lambda     0.2 + 0.4 t / T                    the prefix is carried on by the chosen one
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zoo.records import ScoredBlock, ScoredSegment

Statistic = Literal["range", "variance"]
TOP = 3  # candidates that the chosen one is drawn from; the rejected one's rank from below
MIN_CANDIDATES, MIN_SPREAD = 3, 5.0  # a gate opens above both
LAMBDA = (0.2, 0.6)
WORSE_RULE = 8  # scored candidates from which on outcome DPO leaves the extremes out
DIGITS = 2  # of a score


@dataclass(frozen=True, slots=True)
class PairRule:
    """When a segment is learned from, and how much its pair counts.

    For another rule, override a method and return yours from `ALPO.pair_rule`.

    Attributes:
        statistic: Of the scores: `range` in points, or `variance` (of all candidates).
        spread: It has to be above this.
        min_beta: Smallest beta of an open gate.
        weighted: Whether w is equation (3); else all pairs count alike, in a mean over pairs.
    """

    statistic: Statistic = "range"
    spread: float = MIN_SPREAD
    min_beta: float = 0.0
    weighted: bool = True

    def opens(self, scores: Sequence[float], chosen: int, rejected: int) -> bool:
        """Return g: whether a segment with these rounded scores is learned from."""
        spread = max(scores) - min(scores)
        if self.statistic == "variance":
            spread = statistics.pvariance(scores)
        better = scores[chosen] > scores[rejected]
        return len(scores) > MIN_CANDIDATES and spread > self.spread and better

    def weight(self, candidates: int, total: int) -> float:
        """Return w of an open gate.

        Args:
            candidates: Of the segment.
            total: Candidates of all segments of the block.
        """
        return candidates / total if self.weighted else 1.0

    def beta(self, gap: float, widest: float) -> float:
        """Return beta of an open gate, before `beta_scale`.

        Args:
            gap: r(chosen) - r(rejected) of the segment, in points.
            widest: The largest gap among the open gates of the block.
        """
        return max(gap / widest, self.min_beta)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is learned of a segment.

    Attributes:
        chosen: Position of t^c among the candidates.
        rejected: Position of t^r.
        weight: w; 0 if the gate is closed.
        beta: 0 if the gate is closed.
        is_open: g.
    """

    chosen: int
    rejected: int
    weight: float = 0.0
    beta: float = 0.0
    is_open: bool = False


def choose(record: ScoredBlock, seed: int, rule: PairRule | None = None) -> tuple[Choice, ...]:
    """Return what is learned of each segment of a block; drawn once, by the seed and its index.

    Args:
        record: Candidates with scores.
        seed: The run's.
        rule: When a segment is learned from, and how much its pair counts.
    """
    rule, rng = rule or PairRule(), drawing(seed, record)
    pairs = [pick_pair(segment, rng) for segment in record.segments]
    rounded = [rounded_scores(segment) for segment in record.segments]
    gaps = [
        scores[chosen] - scores[rejected] if scores and rule.opens(scores, chosen, rejected) else 0
        for scores, (chosen, rejected) in zip(rounded, pairs, strict=True)
    ]
    total, widest = sum(len(segment.candidates) for segment in record.segments), max(gaps)
    return tuple(
        Choice(
            *pair,
            weight=rule.weight(len(segment.candidates), total),
            beta=rule.beta(gap, widest),
            is_open=True,
        )
        if gap
        else Choice(*pair)
        for segment, pair, gap in zip(record.segments, pairs, gaps, strict=True)
    )


def drawing(seed: int, record: ScoredBlock) -> random.Random:
    """Return the draws of a block, which no step and no other block changes."""
    return random.Random(seed + record.block.index)


def rounded_scores(segment: ScoredSegment) -> list[float] | None:
    """Return the scores as the gate reads them; None without a verdict."""
    if segment.scores is None or len(segment.candidates) < 2:
        return None
    return [round(score, DIGITS) for score in segment.scores]


def pick_pair(segment: ScoredSegment, rng: random.Random) -> tuple[int, int]:
    """Return the positions of the chosen and the rejected candidate.

    Among equal scores the shorter text is the better one for the chosen and the worse one for the
    rejected. Without a verdict both are the reference, candidate 0.
    """
    scores = rounded_scores(segment)
    if scores is None:
        return 0, 0
    best, worst = _by_rank(segment, scores, best=True), _by_rank(segment, scores, best=False)
    chosen = rng.choice(best[:TOP])
    rejected = worst[min(TOP, len(worst)) - 1]
    if rejected == chosen:
        rejected = next(i for i in worst if i != chosen)
    return chosen, rejected


def _by_rank(segment: ScoredSegment, scores: Sequence[float], *, best: bool) -> list[int]:
    """Return the candidates from the best or from the worst on; of equal ones the shorter first."""
    sizes = [sum(map(len, lines)) for lines in segment.candidates]
    sign = -1 if best else 1
    return sorted(range(len(scores)), key=lambda i: (sign * scores[i], sizes[i], i))


# -- baselines ---------------------------------------------------------------------------------


def choose_every_segment(record: ScoredBlock, seed: int, beta: float) -> tuple[Choice, ...]:
    """Return the pairs of segment DPO: one beta, no weight, and nothing about range or number.

    A segment without a verdict, or whose chosen side does not score above its rejected one (half
    of those with 2 different scores, two thirds with 3, a third with 4, none with more), has no
    pair. The release has no such gate.
    """
    rng = drawing(seed, record)
    choices = []
    for segment in record.segments:
        pair, scores = pick_pair(segment, rng), rounded_scores(segment)
        if scores is not None and scores[pair[0]] > scores[pair[1]]:
            choices.append(Choice(*pair, weight=1.0, beta=beta, is_open=True))
        else:
            choices.append(Choice(*pair))
    return tuple(choices)


def whole_outcomes(record: ScoredBlock, seed: int) -> list[tuple[int, int]]:
    """Return the candidates that outcome DPO joins to a chosen and a rejected whole block.

    From 8 scored candidates on: the shortest of the three best, and the first candidate that scores
    as the third-worst does; with fewer: the best and the worst. A segment without a verdict has the
    same candidate, drawn at random, on both sides.
    """
    rng = drawing(seed, record)
    outcomes = []
    for segment in record.segments:
        scores = rounded_scores(segment)
        if scores is None:
            outcomes.append((rng.randrange(len(segment.candidates)),) * 2)
            continue
        best = _by_rank(segment, scores, best=True)
        if len(scores) < WORSE_RULE:
            worst = _by_rank(segment, scores, best=False)
            outcomes.append((best[0], worst[0]))
            continue
        shortest = min(best[:TOP], key=lambda i: sum(map(len, segment.candidates[i])))
        outcomes.append((shortest, scores.index(sorted(scores)[TOP - 1])))
    return outcomes


# -- the prefix --------------------------------------------------------------------------------


def mixing(step: int, total: int, stages: int | None = None) -> float:
    """Return lambda at a step.

    Args:
        step: Optimiser steps done.
        total: Those of the run.
        stages: Rise in so many equal stages, as the release's five files; None for a line.

    Example:
        >>> [round(mixing(t, 100), 2) for t in (0, 50, 100)]
        [0.2, 0.4, 0.6]
        >>> [round(mixing(t, 100, stages=5), 2) for t in (0, 19, 20, 99)]
        [0.2, 0.2, 0.3, 0.6]
    """
    share = min(step / total, 1.0)
    if stages is not None:
        share = min(int(share * stages), stages - 1) / (stages - 1)
    low, high = LAMBDA
    return low + (high - low) * share


def carry_on(chosen: int, count: int, lam: float, rng: random.Random) -> int:
    """Return the candidate that the prefix goes on with: t^c with probability lambda, else any."""
    return chosen if rng.random() < lam else rng.randrange(count)
