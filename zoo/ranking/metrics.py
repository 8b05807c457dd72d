"""Scores of rankings: recall, reciprocal rank, nDCG with graded judgements, bootstrap intervals.

The measures are those of trec_eval, which also sets the rules here:

- Equal scores: the document whose id sorts last comes first, so a ranking depends on scores and ids
  alone, never on the order in which documents are given. (trec_eval reads scores as 32-bit floats
  and so finds ties that are none here.)
- A document that nobody judged counts as not relevant, as one with a grade of 0 or less does.
- A relevant document that was not ranked counts as not found.
- A query that nobody judged has no scores and is left out of means; one with judgements none of
  which is relevant scores 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

Grades = Mapping[str, int]


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Return the ids, best first.

    Args:
        scores: Document id -> score; higher is better.

    Raises:
        ValueError: A score is not a number.

    Example:
        >>> ranked({"a": 0.1, "b": 0.7, "c": 0.7})
        ['c', 'b', 'a']
    """
    for name, score in scores.items():
        if math.isnan(score):
            raise ValueError(f"the score of document {name!r} is not a number")
    return sorted(sorted(scores, reverse=True), key=lambda name: -scores[name])


def recall(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """Return the share of the relevant documents that are among the first k.

    With one relevant document that is whether it is there, the R@k of single-positive tasks.

    Args:
        ranking: Document ids, best first.
        grades: Document id -> grade; above 0 is relevant.
        k: How far to look.
    """
    relevant = {name for name, grade in grades.items() if grade > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Sequence[str], grades: Grades, k: int = 10) -> float:
    """Return 1 / rank of the first relevant document, 0 if it is not among the first k."""
    for rank, name in enumerate(ranking[:k], start=1):
        if grades.get(name, 0) > 0:
            return 1 / rank
    return 0.0


def ndcg(ranking: Sequence[str], grades: Grades, k: int = 10) -> float:
    """Return DCG over the DCG of the best possible ranking, both cut at k.

    DCG = sum_r grade_r / log2(r + 1): the gain is the grade itself, not 2^grade - 1, and the best
    possible ranking holds all judged documents, ranked or not.
    """
    gains = [max(0, grades.get(name, 0)) for name in ranking[:k]]
    ideal = sorted((max(0, grade) for grade in grades.values()), reverse=True)[:k]
    best = dcg(ideal)
    return dcg(gains) / best if best else 0.0


def dcg(gains: Iterable[float]) -> float:
    """Return sum_r gain_r / log2(r + 1) for r = 1, 2, ..."""
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def query_scores(
    scores: Mapping[str, float], grades: Grades, ks: Sequence[int] = (1, 3)
) -> dict[str, float]:
    """Return `R@k` for each k, `MRR@10` and `nDCG@10` of one query.

    Args:
        scores: Document id -> score, for every document that is ranked.
        grades: Document id -> grade, for every document that was judged.
        ks: The k's of recall.

    Example:
        >>> query_scores({"a": 0.1, "b": 0.9, "c": 0.5}, {"c": 1})["MRR@10"]
        0.5
    """
    ranking = ranked(scores)
    return {
        **{f"R@{k}": recall(ranking, grades, k) for k in ks},
        "MRR@10": reciprocal_rank(ranking, grades),
        "nDCG@10": ndcg(ranking, grades),
    }


def mean_scores(queries: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each score over queries.

    Args:
        queries: What `query_scores` returned, at least one.
    """
    return {name: sum(query[name] for query in queries) / len(queries) for name in queries[0]}


def recall_curve(rankings: Sequence[Sequence[str]], grades: Sequence[Grades]) -> list[float]:
    """Return mean recall at 1, 2, ... up to the longest ranking.

    Args:
        rankings: Document ids, best first, for each query.
        grades: The judgements of each query; each has a relevant document.
    """
    steps = [0.0] * max(map(len, rankings))
    for ranking, judged in zip(rankings, grades, strict=True):
        relevant = {name for name, grade in judged.items() if grade > 0}
        for place, name in enumerate(ranking):
            if name in relevant:
                steps[place] += 1 / len(relevant) / len(rankings)
    total, curve = 0.0, []
    for step in steps:
        total += step
        curve.append(total)
    return curve


def bootstrap(
    values: Sequence[float], *, samples: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean over queries.

    For the difference of two rankers give the differences of the same queries. Queries count as
    independent: with several from one conversation the interval is too narrow.

    Args:
        values: A score of each query.
        samples: Times that as many queries are drawn with replacement.
        level: Share of the resampled means inside the interval.
        seed: Seed of the draws.
    """
    import numpy as np

    scores, rng = np.asarray(values, dtype=float), np.random.default_rng(seed)
    size = len(scores)
    means = [scores[rng.integers(0, size, size)].mean() for _ in range(samples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
