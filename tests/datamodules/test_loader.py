"""The step loader: order, resuming, and normalisers that make accumulation and ranks exact."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from datamodules.loader import StepLoader
from zoo.encoding import NO_HEAD, Example, collate


def example(index: int, length: int) -> Example:
    """One sequence whose tokens are its index; half of it learned by head 0, half by head 1."""
    heads = [i % 2 for i in range(length - 1)] + [NO_HEAD]
    weights = [1.0 + index % 3] * (length - 1) + [0.0]
    return Example([index] * length, [index] * (length - 1) + [-100], heads, weights)


EXAMPLES = [example(i, 3 + (7 * i) % 11) for i in range(23)]


def loader(**options: Any) -> StepLoader:
    return StepLoader(EXAMPLES, collate, **{"batch_size": 2, "shuffle": True, **options})


def contents(batches: Any) -> list[list[int]]:
    """Return the indices of the examples in each batch."""
    return [batch.input_ids[0, batch.offsets[:-1].long()].tolist() for batch in batches]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first, again = loader(seed=1), loader(seed=1)
    torch.manual_seed(5)
    epochs = [contents(first), contents(first)]
    torch.manual_seed(6)
    assert [contents(again), contents(again)] == epochs
    assert epochs[0] != epochs[1]
    assert contents(loader(seed=2)) != epochs[0]
    for epoch in epochs:
        assert sorted(sum(epoch, [])) == list(range(23))
    assert contents(loader(shuffle=False)) == [[*range(i, min(i + 2, 23))] for i in range(0, 23, 2)]


def test_length_and_token_limit() -> None:
    assert len(loader()) == 12
    limited = loader(batch_size=8, max_tokens=20)
    batches = list(limited)
    assert all(batch.num_tokens <= 20 or len(batch.lengths) == 1 for batch in batches)
    assert max(len(batch.lengths) for batch in batches) > 1
    assert sorted(sum(contents(batches), [])) == list(range(23))
    # Closed no earlier than needed: the next example would not have fitted.
    for batch, following in zip(batches, batches[1:], strict=False):
        assert batch.num_tokens + following.lengths[0] > 20


@pytest.mark.parametrize("stop", [1, 5, 11, 12, 17])
@pytest.mark.parametrize("max_tokens", [None, 40])
@pytest.mark.parametrize("group_by_length", [False, True])
def test_resuming_continues_the_uninterrupted_order(
    stop: int, max_tokens: int | None, group_by_length: bool
) -> None:
    given: Any = {"seed": 3, "max_tokens": max_tokens, "group_by_length": group_by_length}
    whole, seen = loader(**given), []
    for _ in range(3):
        seen += contents(whole)
    before = loader(**given)
    taken: list[Any] = []
    while len(taken) < stop:
        for batch in before:
            taken.append(batch)
            if len(taken) == stop:
                break
    state = before.state_dict()
    after = loader(**given)
    after.load_state_dict(state)
    rest: list[Any] = []
    while len(rest) < len(seen) - stop:
        rest += list(after)
    assert contents(taken) + contents(rest) == seen


def test_the_state_is_plain_and_after_an_epoch_points_to_the_next() -> None:
    one = loader()
    list(one)
    assert one.state_dict() == {"epoch": 1, "position": 0}


@pytest.mark.parametrize(("accumulate", "world"), [(1, 1), (4, 1), (1, 2), (3, 2), (5, 3)])
def test_normalizers_give_the_mean_over_the_step(accumulate: int, world: int) -> None:
    """Lightning averages over accumulation and ranks; times the normaliser that is the step's mean.

    For every optimiser step and head: sum over micro-batches and ranks of sum/normaliser, divided
    by accumulation x ranks, has to be (sum over the step) / (weight over the step).
    """
    ranks = [list(loader(accumulate=accumulate, rank=r, world_size=world)) for r in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    seen: Counter[int] = Counter()
    for start in range(0, len(ranks[0]), accumulate):
        window = [b for batches in ranks for b in batches[start : start + accumulate]]
        for head in (0, 1):
            mean = total = weight = 0.0
            for batch in window:
                own = (batch.head_ids == head).float() * batch.weights
                value = (own * (1 + batch.input_ids)).sum().item()  # a made-up loss per token
                mean += value / batch.normalizers[head] / (accumulate * world)
                if batch.normalizers[head] != float("inf"):
                    total += value
                    weight += own.sum().item()
            # Lightning divides a last, shorter step by `accumulate` all the same; so do we here.
            assert mean == pytest.approx(total / weight)
        for batch in window:
            if batch.normalizers[0] != float("inf"):
                seen.update(contents([batch])[0])
    assert seen == Counter(range(23))  # every example counts once on exactly one rank


def test_the_filler_of_a_smaller_rank_counts_nothing() -> None:
    ranks = [list(loader(batch_size=5, rank=r, world_size=2, shuffle=False)) for r in (0, 1)]
    assert [len(batches) for batches in ranks] == [3, 3]  # 5 micro-batches
    filler = ranks[1][-1]
    assert set(filler.normalizers.values()) == {float("inf")}
    assert filler.num_tokens > 0  # something to run, so that collectives match
    assert not any(float("inf") in b.normalizers.values() for b in [*ranks[0], *ranks[1][:-1]])


def test_workers_yield_the_same_batches() -> None:
    assert contents(loader(num_workers=1)) == contents(loader())
