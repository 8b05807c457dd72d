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
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchmetrics.functional.retrieval import (
    retrieval_normalized_dcg,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

from zoo.errors import InputError
from zoo.metrics.records import RecordMetric

Grades = Mapping[str, int]
DEPTH = 10  # of MRR and nDCG


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Return the ids, best first.

    Args:
        scores: Document id -> score; higher is better.

    Raises:
        InputError: A score is not a number.

    Example:
        >>> ranked({"a": 0.1, "b": 0.7, "c": 0.7})
        ['c', 'b', 'a']
    """
    for name, score in scores.items():
        if math.isnan(score):
            raise InputError(f"the score of document {name!r} is not a number")
    return sorted(sorted(scores, reverse=True), key=lambda name: -scores[name])


def query_scores(
    scores: Mapping[str, float], grades: Grades, ks: Sequence[int] = (1, 3)
) -> dict[str, float]:
    """Return `R@k` for each k, `MRR@10` and `nDCG@10` of one query.

    `R@k` is the share of the relevant documents (grade above 0) that are among the first k. The
    gain of nDCG is the grade itself; the best possible ranking holds all judged documents.

    Args:
        scores: Document id -> score, for every document that is ranked.
        grades: Document id -> grade, for every document that was judged.
        ks: The k's of recall.

    Example:
        >>> query_scores({"a": 0.1, "b": 0.9, "c": 0.5}, {"c": 1})["MRR@10"]
        0.5
    """
    names = ranked(scores)
    # torchmetrics ranks all that it is given: relevant documents that were not ranked come last,
    # behind so many that are not relevant that none of them is among the first k.
    names += [""] * max(DEPTH, *ks) + [name for name in grades if name not in scores]
    gains = torch.tensor([max(0, grades.get(name, 0)) for name in names])
    places = torch.arange(len(names), 0, -1.0)  # above 0: others do not count as retrieved
    measured = {f"R@{k}": retrieval_recall(places, gains > 0, top_k=k) for k in ks}
    measured["MRR@10"] = retrieval_reciprocal_rank(places, gains > 0, top_k=DEPTH)
    measured["nDCG@10"] = retrieval_normalized_dcg(places, gains, top_k=DEPTH)
    return {name: float(score) for name, score in measured.items()}


class RankingScores(RecordMetric):
    """Mean `R@k`, `MRR@10` and `nDCG@10` over queries, in total and by kind of query.

    Differs from torchmetrics' retrieval metrics, which it calls on the ranking, as trec_eval does:
    equal scores are ordered by document id (theirs: as given, nDCG the mean over all orders),
    scores below 0 are scores (theirs: not retrieved), and relevant documents that were not ranked
    count as not found.

    Args:
        ks: The k's of recall.
        options: Of `torchmetrics.Metric`.

    Example:
        >>> RankingScores(ks=(1,))([{"a": 0.1, "b": 0.9}], [{"a": 1}])["MRR@10"]
        0.5
    """

    def __init__(self, ks: Sequence[int] = (1, 3), **options: Any) -> None:
        super().__init__(**options)
        self.ks = tuple(ks)

    def update(
        self,
        scores: Sequence[Mapping[str, float]],
        grades: Sequence[Grades],
        kinds: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Rank the documents of queries.

        Args:
            scores: Document id -> score, of each query.
            grades: Document id -> grade, of each query.
            kinds: Kind of each query, empty for none; None for no kinds.
            ids: Names of the queries; one that comes twice counts once.
        """
        rows = [query_scores(s, g, self.ks) for s, g in zip(scores, grades, strict=True)]
        self.keep(zip(kinds or [""] * len(rows), rows, strict=True), ids)

    def compute(self) -> dict[str, float]:
        """Return the means by name, `NAME_KIND` for a kind; nothing without queries."""
        queries: dict[str, list[dict[str, float]]] = {}
        for kind, row in self.kept():
            for suffix in {"", f"_{kind}" if kind else ""}:
                queries.setdefault(suffix, []).append(row)
        return {
            f"{name}{suffix}": value
            for suffix, rows in sorted(queries.items())
            for name, value in mean_scores(rows).items()
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
