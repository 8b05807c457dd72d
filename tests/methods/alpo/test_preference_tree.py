"""Trees of candidates: where they end, which pairs they hold, how they join in a batch."""

from __future__ import annotations

import random

from zoo.encoding import NO_HEAD
from zoo.methods.alpo.choose import Choice
from zoo.methods.alpo.preference_tree import BLOCK, BlockPlan, collate_plans, sequence


def plan_of(*opened: bool) -> BlockPlan:
    """Return a plan of segments with three candidates of one token each."""
    ids = tuple(tuple((10 * i + j,) for j in range(3)) for i in range(1, len(opened) + 1))
    choices = tuple(Choice(1, 2, 0.5, 1.0, True) if o else Choice(1, 2) for o in opened)
    return BlockPlan((1, 2), ids, choices, float(any(opened)), 0)


def test_a_tree_ends_with_its_last_open_segment() -> None:
    """What carries the prefix on is there once; behind the last pair there is nothing."""
    tree, pairs = plan_of(True, False, True, False).grow(1.0, random.Random(0))
    paths = [tree.path(i) for i in range(len(tree.nodes))]
    assert paths == [
        *([1, 2], [1, 2, 11], [1, 2, 12], [1, 2, 11, 21]),
        *([1, 2, 11, 21, 31], [1, 2, 11, 21, 32]),
    ]
    assert pairs == [(1, 2), (4, 5)]
    assert len(plan_of(True, False, True, False)) == 7
    assert plan_of(False).head_weights() == {}
    assert plan_of(True).head_weights() == {BLOCK: 1.0}
    example = sequence(tree, 5)
    assert example.input_ids == [1, 2, 11, 21, 32]
    assert [head for head in example.head_ids if head != NO_HEAD] == [BLOCK]
    ids = [pair.input_ids for pair in plan_of(True, True).pair_examples()]
    assert ids == [[1, 2, 11], [1, 2, 12], [1, 2, 11, 21], [1, 2, 11, 22]]


def test_pairs_of_a_batch_are_those_of_its_trees() -> None:
    """Numbers run on from tree to tree; a batch without an open gate is divided by one."""
    batch = collate_plans([plan_of(False, True), plan_of(True, True)], 1.0, None)
    assert batch.chosen.tolist() == [0, 2, 4]
    assert batch.rejected.tolist() == [1, 3, 5]
    assert batch.pair_weights.tolist() == [0.5] * 3
    assert batch.normalizers == {BLOCK: 2.0}
    assert batch.counts() == {"tokens": batch.num_tokens, "pairs": 3}
    closed = collate_plans([plan_of(False)], 1.0, None)
    assert closed.normalizers == {BLOCK: 1.0}
    assert closed.counts()["pairs"] == 0
