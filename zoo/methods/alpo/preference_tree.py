"""A block's preference tree: the pairs of its segments hang on one growing prefix.

    prompt + t_1^c           segment 1: chosen and rejected are leaves of the prompt;
           + t_1^r           the prefix goes on with a candidate, here t_1^c
             t_1^c + t_2^c
                   + t_2^r

A candidate that carries the prefix on is run once and serves as leaf and as prefix.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zoo.encoding import NO_HEAD, Example, extended, join
from zoo.methods.alpo.choose import Choice, carry_on
from zoo.records import ScoredBlock
from zoo.trees import Node, Tree, TreeBatch, collate_trees

BLOCK = 0  # the "head" that learns candidates, and counts blocks
Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """A block before its prefix is drawn.

    Attributes:
        prompt: Token ids before the first segment.
        candidates: Token ids of the candidates of each segment.
        choices: What is learned of each segment.
        count: What the block counts in the mean: 1, or its pairs; 0 if no gate is open.
        index: Number of the block, which seeds its prefixes.
        record: The record it was made from.
    """

    prompt: Ids
    candidates: tuple[tuple[Ids, ...], ...]
    choices: tuple[Choice, ...]
    count: float
    index: int
    record: ScoredBlock | None = None

    def __len__(self) -> int:
        """Return the tokens of a tree whose prefix is carried on by the chosen ones."""
        return len(self.grow(1.0, random.Random(0))[0])

    def head_weights(self) -> dict[int, float]:
        """Return what the block counts in the mean; nothing without an open gate."""
        return {BLOCK: self.count} if self.count else {}

    def grow(self, lam: float, rng: random.Random) -> tuple[Tree, list[tuple[int, int]]]:
        """Draw a prefix and hang the pairs of open segments on it.

        Args:
            lam: Probability that the chosen candidate carries the prefix on.
            rng: Draws the prefix.

        Returns:
            The tree, and the chosen and the rejected node of each open segment.
        """
        nodes, pairs, parent = [Node(self.prompt)], [], 0
        last = max((i for i, c in enumerate(self.choices) if c.is_open), default=-1)
        for i, (candidates, choice) in enumerate(zip(self.candidates, self.choices, strict=True)):
            if i > last:  # nothing is learned any more
                break
            places: dict[int, int] = {}
            if choice.is_open:
                for leaf in (choice.chosen, choice.rejected):
                    places[leaf] = len(nodes)
                    nodes.append(Node(candidates[leaf], parent, head=BLOCK))
                pairs.append((places[choice.chosen], places[choice.rejected]))
            taken = carry_on(choice.chosen, len(candidates), lam, rng)
            if taken not in places and i < last:
                places[taken] = len(nodes)
                nodes.append(Node(candidates[taken], parent))
            parent = places.get(taken, parent)
        return Tree(tuple(nodes), self.record), pairs

    def pair_examples(self) -> list[Example]:
        """Return chosen and rejected of each open segment as sequences, after chosen prefixes."""
        tree, pairs = self.grow(1.0, random.Random(0))
        return [sequence(tree, leaf) for pair in pairs for leaf in pair]


def sequence(tree: Tree, leaf: int) -> Example:
    """Return a leaf as a sequence of its own, its prefix unlearned."""
    node = tree.nodes[leaf]
    above = [] if node.parent is None else tree.path(node.parent)
    return join([(above, NO_HEAD, 0.0), (node.ids, BLOCK, 1.0)], record=tree.record)


@dataclass(slots=True)
class PreferenceBatch(TreeBatch):
    """Trees of blocks, and the pairs on them, `P` in all.

    Attributes:
        chosen: Learned node of t^c of each pair, `(P,)`.
        rejected: That of t^r.
        pair_weights: w, `(P,)`.
        pair_betas: beta, `(P,)`.
        plans: The blocks.
    """

    chosen: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    rejected: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    pair_weights: Tensor = field(default_factory=lambda: torch.empty(0))
    pair_betas: Tensor = field(default_factory=lambda: torch.empty(0))
    plans: list[BlockPlan] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return the amounts of work that throughput is reported in."""
        return {"tokens": self.num_tokens, "pairs": len(self.chosen)}


def collate_plans(
    plans: Sequence[BlockPlan],
    lam: float,
    draws: Sequence[random.Random] | None,
    normalizers: dict[int, float] | None = None,
    *,
    pad_id: int = 0,
) -> PreferenceBatch:
    """Draw a prefix for each block and join the trees into a batch.

    Args:
        plans: At least one.
        lam: See `BlockPlan.grow`.
        draws: One for each plan; None where nothing is random, at `lam` 1.
        normalizers: See `Batch`; None or an empty one for the count of these blocks.
        pad_id: Token id of the padding.
    """
    draws = draws or [random.Random(0) for _ in plans]
    grown = [plan.grow(lam, rng) for plan, rng in zip(plans, draws, strict=True)]
    if not normalizers:
        normalizers = {BLOCK: sum(plan.count for plan in plans) or 1.0}
    base = collate_trees([tree for tree, _ in grown], normalizers, pad_id=pad_id)
    numbers, first = [], 0  # chosen and rejected as numbers of learned nodes
    for tree, pairs in grown:
        learned = [i for i, node in enumerate(tree.nodes) if node.head != NO_HEAD]
        places = {node: first + place for place, node in enumerate(learned)}
        numbers += [(places[chosen], places[rejected]) for chosen, rejected in pairs]
        first += len(learned)
    opened = [choice for plan in plans for choice in plan.choices if choice.is_open]
    return extended(
        PreferenceBatch,
        base,
        chosen=torch.tensor([pair[0] for pair in numbers], dtype=torch.long),
        rejected=torch.tensor([pair[1] for pair in numbers], dtype=torch.long),
        pair_weights=torch.tensor([choice.weight for choice in opened]),
        pair_betas=torch.tensor([choice.beta for choice in opened]),
        plans=list(plans),
    )
