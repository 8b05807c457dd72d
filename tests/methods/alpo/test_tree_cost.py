"""Tokens that a tree runs, against a sequence for each candidate: counted, so never in doubt."""

from __future__ import annotations

import random

from zoo.methods.alpo.choose import Choice
from zoo.methods.alpo.preference_tree import BlockPlan
from zoo.trees import Node, Tree, collate_trees


def test_all_candidates_of_five_segments() -> None:
    """Sheet: 5 segments x 10 candidates, 316 tokens instead of 1,856.

    The sheet names no lengths; these give both numbers: a prompt of 20, candidates of 5 or 6.
    """
    carried = [6, 5, 6, 5]  # the first candidate of a segment carries the prefix on
    nodes, parent = [Node([1] * 20)], 0
    for i in range(5):
        sizes = [carried[i] if i < 4 else 5] + [6] * 9
        if i == 0:
            sizes[9] = 5
        first = len(nodes)
        nodes += [Node([1] * size, parent, head=0) for size in sizes]
        parent = first
    tree = Tree(tuple(nodes))
    separate = sum(len(tree.path(i)) for i in range(1, len(nodes)))
    assert (len(tree), separate) == (316, 1856)
    assert collate_trees([tree]).input_ids.shape == (1, 316)


def block(prompt: int, segments: int, size: int, candidates: int) -> BlockPlan:
    return BlockPlan(
        (1,) * prompt,
        (tuple((i,) * size for i in range(candidates)),) * segments,
        (Choice(0, 1, 1 / segments, 1.0, True),) * segments,
        1.0,
        0,
    )


def test_pairs_on_a_growing_prefix() -> None:
    """P = 600, n = 10, s = 20: 14,200 tokens as pairs; a tree has at most P + 3ns of them."""
    plan = block(600, 10, 20, candidates=10)
    separate = sum(len(example) for example in plan.pair_examples())
    assert separate == sum(2 * (600 + (i + 1) * 20) for i in range(10)) == 14_200
    assert len(plan) == 600 + 2 * 10 * 20  # chosen prefixes: they are leaves already
    sizes = [len(plan.grow(0.2, random.Random(seed))[0]) for seed in range(50)]
    assert max(sizes) <= 600 + 3 * 10 * 20
    assert 14_200 / max(sizes) > 11.8
