"""Micro-batches of an epoch: like lengths together, batches that are full, plans of any size."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from datamodules.epoch_plan import EpochPlan, by_length, micro_batches, shuffled
from datamodules.sizes import Sizes


def sizes(number: int) -> Sizes:
    """Return sizes of examples with 50 to 900 tokens and one weight each."""
    rng = np.random.default_rng(0)
    one = np.arange(number + 1)
    return Sizes(rng.integers(50, 901, number), one, np.zeros(number, int), rng.random(number))


def batches(order: Any, starts: Any) -> list[list[int]]:
    return [order[i:j].tolist() for i, j in pairwise([*starts, len(order)])]


def padding(made: list[list[int]], lengths: Any) -> float:
    """Return the share of slots that padded batches waste."""
    slots = sum(len(batch) * lengths[batch].max() for batch in made)
    return float(1 - lengths.sum() / slots)


def test_like_lengths_save_padding() -> None:
    given, seed = sizes(3001), "0-0"
    order = shuffled(np.arange(3001), seed)
    before = batches(*micro_batches(given, order, 8, None, grouped=False))
    after = batches(*by_length(given, order, 8, None, seed))
    assert sorted(sum(after, [])) == list(range(3001))
    assert padding(before, given.lengths) > 0.4
    assert padding(after, given.lengths) < 0.03
    means = [given.lengths[batch].mean() for batch in after]
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.15  # no long batches first
    assert batches(*by_length(given, order, 8, None, "0-1")) != after


def test_batches_are_full() -> None:
    """Best-fit decreasing leaves less than 2 % of `max_tokens` unused; in order it is more."""
    given = sizes(20_000)
    order = shuffled(np.arange(20_000), "0-0")

    def unused(made: list[list[int]]) -> float:
        tokens = [given.lengths[batch].sum() for batch in made]
        assert max(tokens) <= 8192
        return float(1 - sum(tokens) / (8192 * len(tokens)))

    packed = batches(*by_length(given, order, 64, 8192, "0-0"))
    assert sorted(sum(packed, [])) == list(range(20_000))
    assert unused(packed) < 0.02
    assert unused(batches(*micro_batches(given, order, 64, 8192, grouped=False))) > 0.02


def test_one_example_may_be_longer_than_the_limit() -> None:
    given = sizes(9)
    made = batches(*by_length(given, np.arange(9), 4, 60, "0"))
    assert sorted(sum(made, [])) == list(range(9))
    assert all(len(batch) == 1 or given.lengths[batch].sum() <= 60 for batch in made)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_step_of_all_ranks_is_divided_by_its_sum(accumulate: int) -> None:
    given = sizes(50)
    order, starts = micro_batches(given, np.arange(50), 4, None, grouped=False)  # 13 batches
    ranks = [
        EpochPlan(given, order, starts, accumulate=accumulate, rank=rank, world_size=2)
        for rank in range(2)
    ]
    assert [len(plan) for plan in ranks] == [7, 7]
    for window in range(0, 7, accumulate):
        places = range(window, min(window + accumulate, 7))
        parts = [plan[place] for place in places for plan in ranks]
        real = [(indices, share) for indices, share in parts if share[0] != float("inf")]
        total = sum(given.weights[indices].sum() for indices, _ in real)
        for _, share in real:
            assert share[0] == pytest.approx(total / (2 * accumulate))
    last = ranks[1][6]
    assert last[1] == {0: float("inf")}  # the thirteenth batch has no partner


@pytest.mark.slow
def test_ten_million_examples_are_planned_in_seconds() -> None:
    given = sizes(10_000_000)
    began = time.process_time()
    order = shuffled(given.learned(), "0-0")
    order, starts = micro_batches(given, order, 16, 8192, grouped=False)
    plan = EpochPlan(given, order, starts, accumulate=4, rank=3, world_size=8)
    assert len(plan[len(plan) - 1][0])
    assert time.process_time() - began < 60  # about 10 on one core; a plan of objects took minutes
