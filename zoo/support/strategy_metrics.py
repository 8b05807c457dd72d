"""Scores of predicted strategies: accuracy, proficiency, preference bias, transitions.

The definitions are those of the emotional support benchmark (Kang et al., "Can Large Language
Models be Good Emotional Supporter?", ACL 2024). Everything starts from one table: n_gk counts how
often strategy k was predicted where g is right.

    (1)  Acc = sum_g n_gg / N
    (2)  F1_g = 2 n_gg / (sum_k n_gk + sum_k n_kg), 0 where that is 0 / 0;  Q = mean over all K
    (3)  p_i <- [sum_j w_ij p_j / (p_i + p_j)] / [sum_j w_ji / (p_i + p_j)],  w_ij = n_ji, j != i
    (4)  B = sqrt(mean_i (p_i - 1)^2),  p scaled to sum K

Deviates: where a strategy has an empty row or column in w, (3) divides zero by zero within a few
sweeps. Then, and only then, epsilon is added to every w_ij, i != j.

Accuracy and weighted F1 are those of torchmetrics; the bootstrap over dialogues needs them, as
everything else, for a thousand tables at once.

Shapes: K strategies; leading dimensions (...) are tables side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from zoo.metrics.records import RecordMetric, number
from zoo.support.labels import STAGES, SUPPORT, Labels

Floats = NDArray[np.float64]

SWEEPS = 20
EPSILON = 1e-6


def parse_labels(texts: Sequence[str], labels: Labels = SUPPORT) -> tuple[list[str], float]:
    """Return the names that a model's texts mean, and the share that means none.

    A text that means none counts as `labels.fallback` (Others).

    Example:
        >>> parse_labels(["Questions", "I would use Information here.", "?", "self-disclosure"])
        (['Question', 'Information', 'Others', 'Self-disclosure'], 0.25)
    """
    names = [labels.find(text) for text in texts]
    failed = sum(name is None for name in names) / max(1, len(names))
    return [name or labels.fallback for name in names], failed


def count_pairs(
    gold: Sequence[str], predicted: Sequence[str], names: Sequence[str] = SUPPORT.names
) -> Floats:
    """Return n_gk, `(K, K)`, a row per gold strategy.

    Args:
        gold: The right name of each sample.
        predicted: The predicted name of each sample.
        names: All names in order.

    Raises:
        ValueError: A name is not in `names`, or the lengths differ.
    """
    place = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)))
    for g, p in zip(gold, predicted, strict=True):
        if g not in place or p not in place:
            raise ValueError(f"no strategy {g if g not in place else p!r}; use parse_labels")
        counts[place[g], place[p]] += 1
    return counts


def accuracy(counts: Floats) -> Floats:
    """Return Acc of equation (1) for tables `(..., K, K)`; 0 for an empty table."""
    total = counts.sum((-2, -1))
    return np.trace(counts, axis1=-2, axis2=-1) / np.maximum(total, 1)


def f1(counts: Floats) -> Floats:
    """Return F1_g of equation (2), `(..., K)`, for tables `(..., K, K)`."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    either = counts.sum(-1) + counts.sum(-2)
    return 2 * right / np.where(either == 0, 1, either)


def proficiency(counts: Floats) -> Floats:
    """Return Q of equation (2): the mean F1 over all K strategies, absent ones included."""
    return f1(counts).mean(-1)


def weighted_f1(counts: Floats) -> Floats:
    """Return the mean F1 weighted by how often each strategy is right."""
    total = counts.sum((-2, -1))
    return (f1(counts) * counts.sum(-1)).sum(-1) / np.maximum(total, 1)


def preferences(counts: Floats, sweeps: int = SWEEPS) -> Floats:
    """Return the preference p of equation (3) for each strategy, `(..., K)`, with sum K.

    A sweep updates p_0, p_1, ... in place, then divides by the geometric mean. 20 sweeps are the
    benchmark's. They reach the fixed point where every strategy is confused with every other,
    directly or over others. Where one is taken for the rest but never the reverse, p moves on
    slowly, and B depends on the order of the strategies in its third decimal.

    Args:
        counts: Tables `(..., K, K)`.
        sweeps: How many.
    """
    size = counts.shape[-1]
    others = ~np.eye(size, dtype=bool)
    w = np.where(others, np.swapaxes(counts, -2, -1), 0.0)
    empty = (w.sum(-1) == 0) | (w.sum(-2) == 0)
    w = np.where(empty.any(-1)[..., None, None] & others, w + EPSILON, w)
    p = np.ones(w.shape[:-1])
    for _ in range(sweeps):
        for i in range(size):
            both = p[..., i, None] + p
            won = (w[..., i, :] * p / both).sum(-1)
            lost = (w[..., :, i] / both).sum(-1)
            p[..., i] = won / lost
        p = p / np.exp(np.log(p).mean(-1, keepdims=True))
    return p * size / p.sum(-1, keepdims=True)


def bias(counts: Floats, sweeps: int = SWEEPS) -> Floats:
    """Return B of equation (4): 0 without preference, sqrt(K - 1) for one strategy only.

    By (3) what counts is how often i is said for j beside how often j is said for i. Where gold is
    skewed, uniform guesses therefore prefer the rare strategies, and B is above 0. Of few decisions
    it is noise: uniform guesses at 30 decisions of ESConv have a median B of 1.35, above 2.6 in 39
    percent of draws; at 300 it is 0.53, near its limit (`benchmarks/support/lookup.py`).
    """
    return np.sqrt(((preferences(counts, sweeps) - 1) ** 2).mean(-1))


def strategy_scores(counts: Floats) -> dict[str, Floats]:
    """Return Acc, Q and weighted F1 in percent, and B, for tables `(..., K, K)`."""
    return {
        "accuracy": 100 * accuracy(counts),
        "proficiency": 100 * proficiency(counts),
        "weighted_f1": 100 * weighted_f1(counts),
        "bias": bias(counts),
    }


class StrategyMetric(RecordMetric):
    """Base of scores of strategies that were predicted beside those that are right.

    Args:
        labels: The names of strategies, or of acts.
        options: Of `torchmetrics.Metric`.
    """

    def __init__(self, labels: Labels = SUPPORT, **options: Any) -> None:
        super().__init__(**options)
        self.labels = labels

    def update(
        self, predicted: Sequence[str], gold: Sequence[str], ids: Sequence[str] | None = None
    ) -> None:
        """Count predictions.

        Args:
            predicted: Names or a model's words; what means no name counts as the fallback.
            gold: The right names, or aliases of them.
            ids: Names of the decisions; one that comes twice counts once.

        Raises:
            InputError: A gold strategy is no name.
        """
        names, _ = parse_labels(predicted, self.labels)
        right = [self.labels.canonical(name, "gold") for name in gold]
        self.keep(zip(right, names, strict=True), ids)

    def table(self) -> Floats:
        """Return n_gk, `(K, K)`, a row per gold strategy."""
        pairs = self.kept()
        return count_pairs([g for g, _ in pairs], [p for _, p in pairs], self.labels.names)


class StrategyBias(StrategyMetric):
    """Preference bias B, equation (4); torchmetrics has none.

    Example:
        >>> StrategyBias()(["Question", "Others"], ["Question", "Others"])
        tensor(0., dtype=torch.float64)
    """

    def compute(self) -> Tensor:
        """Return B; 0 without predictions."""
        return number(float(bias(self.table())))


class StrategyProficiency(StrategyMetric):
    """Proficiency Q in percent, equation (2): macro F1 over all K strategies.

    Differs from `torchmetrics.classification.MulticlassF1Score(average="macro")`, which leaves out
    classes that are neither right nor predicted anywhere; here they count as 0.
    """

    def compute(self) -> Tensor:
        """Return Q; 0 without predictions."""
        return number(100 * float(proficiency(self.table())))


class StrategyScores(StrategyMetric):
    """Accuracy, proficiency and weighted F1 in percent, and bias, from one table."""

    def compute(self) -> dict[str, float]:
        """Return the scores by name; nothing without predictions."""
        table = self.table()
        return {name: float(v) for name, v in strategy_scores(table).items()} if table.any() else {}


def depth_bins(*edges: int) -> dict[str, tuple[int, int | None]]:
    """Return bins of turn depths: `early` and `late` for one edge, else named by their depths.

    Example:
        >>> depth_bins(7)
        {'early': (0, 7), 'late': (7, None)}
        >>> list(depth_bins(5, 10))
        ['0-4', '5-9', '10+']
    """
    if len(edges) == 1:
        return {"early": (0, edges[0]), "late": (edges[0], None)}
    bins: dict[str, tuple[int, int | None]] = {
        f"{start}-{stop - 1}": (start, stop) for start, stop in pairwise((0, *edges))
    }
    return {**bins, f"{edges[-1]}+": (edges[-1], None)}


def transitions(
    chains: Sequence[Sequence[str]], names: Sequence[str] = SUPPORT.names, *, rows: bool = True
) -> Floats:
    """Return how often each strategy follows each, `(K, K)`, a row per strategy left.

    Args:
        chains: Strategies in the order in which they were used, a chain per dialogue (or per
            utterance). A name outside `names` breaks the chain.
        names: The strategies, in the order of rows and columns; `in_stages` sorts them.
        rows: Divide each row by its sum; a row without transitions stays 0.
    """
    place = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)))
    for chain in chains:
        for left, right in pairwise(chain):
            if left in place and right in place:
                counts[place[left], place[right]] += 1
    total = counts.sum(1, keepdims=True)
    return counts / np.where(total == 0, 1, total) if rows else counts


def in_stages(stages: Mapping[str, int] = STAGES) -> list[str]:
    """Return the strategies that belong to a stage, first stage first; Others belongs to none."""
    return sorted(stages, key=stages.__getitem__)


def upper_mass(table: Floats) -> float:
    """Return the share of a transition table that moves on: strictly above its diagonal.

    What stays on the diagonal (the same strategy again) counts for neither side; 0 if nothing
    moves.
    """
    upper, lower = float(np.triu(table, 1).sum()), float(np.tril(table, -1).sum())
    return upper / (upper + lower) if upper + lower else 0.0
