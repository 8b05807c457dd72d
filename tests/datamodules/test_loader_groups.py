"""The step loader with groups: examples of one group never share a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from datamodules.loader import StepLoader


@dataclass(frozen=True)
class Grouped:
    """An example that must not meet another of its group."""

    index: int
    group: str | None
    length: int = 1

    def __len__(self) -> int:
        return self.length

    def head_weights(self) -> dict[int, float]:
        return {0: 1.0}


def grouped(groups: list[str | None], **options: Any) -> StepLoader:
    examples = [Grouped(i, group, 1 + i % 5) for i, group in enumerate(groups)]
    given = {"batch_size": 4, "shuffle": True, **options}
    return StepLoader(examples, lambda some, normalizers: (list(some), normalizers), **given)


def batches_of(loader: StepLoader) -> list[list[Grouped]]:
    return [examples for examples, _ in loader]


UNEVEN = ["a"] * 9 + ["b"] * 3 + ["c", "d", "e"]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 15])
@pytest.mark.parametrize("max_tokens", [None, 7])
def test_examples_of_a_group_never_share_a_batch(batch_size: int, max_tokens: int | None) -> None:
    """And every example is there once, also those of a group that is most of the data."""
    some = grouped(UNEVEN, batch_size=batch_size, max_tokens=max_tokens)
    for _ in range(3):
        found = batches_of(some)
        for batch in found:
            groups = [example.group for example in batch]
            assert len(set(groups)) == len(groups) <= batch_size
            assert max_tokens is None or sum(map(len, batch)) <= max_tokens
        assert sorted(e.index for batch in found for e in batch) == list(range(len(UNEVEN)))


def test_full_batches_where_the_groups_allow_them() -> None:
    """Ten of each of ten groups, batches of ten: few batches are cut short."""
    sizes = [len(batch) for batch in batches_of(grouped(list("abcdefghij") * 10, batch_size=10))]
    assert sum(sizes) == 100
    assert len(sizes) <= 16


def test_examples_without_a_group_share_batches() -> None:
    found = batches_of(grouped([None] * 8))
    assert [len(batch) for batch in found] == [4, 4]


def test_groups_do_not_matter_where_nothing_is_shuffled() -> None:
    """Evaluation goes through the data in order."""
    found = batches_of(grouped(UNEVEN, shuffle=False))
    assert [e.index for batch in found for e in batch] == list(range(len(UNEVEN)))
    assert [len(batch) for batch in found] == [4, 4, 4, 3]


@pytest.mark.parametrize("stop", [1, 5, 12])
def test_resuming_with_groups(stop: int) -> None:
    whole = grouped(UNEVEN, seed=3)
    expected = batches_of(whole) + batches_of(whole)
    before = grouped(UNEVEN, seed=3)
    taken: list[Any] = []
    while len(taken) < stop:
        for batch, _ in before:
            taken.append(batch)
            if len(taken) == stop:
                break
    after = grouped(UNEVEN, seed=3)
    after.load_state_dict(before.state_dict())
    assert taken + batches_of(after) == expected[: stop + len(batches_of_rest(expected, stop))]


def test_groups_are_not_joined_by_length(refused: Callable[..., str]) -> None:
    refused(lambda: grouped(["a", "a"], group_by_length=True), "data.group_by_length")


def batches_of_rest(expected: list[Any], stop: int) -> list[Any]:
    """Return the batches from `stop` to the end of its epoch."""
    epoch = len(expected) // 2
    end = epoch if stop < epoch else 2 * epoch
    return expected[stop:end]


@pytest.mark.parametrize(("accumulate", "world"), [(1, 1), (3, 1), (1, 2), (2, 2)])
def test_normalizers_with_groups(accumulate: int, world: int) -> None:
    """Batches of unequal sizes still give the mean over the step."""
    ranks = [
        list(grouped(UNEVEN, accumulate=accumulate, rank=r, world_size=world)) for r in range(world)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    for start in range(0, len(ranks[0]), accumulate):
        window = [b for batches in ranks for b in batches[start : start + accumulate]]
        share = sum(len(examples) / n[0] for examples, n in window) / (accumulate * world)
        assert share == pytest.approx(1.0)
