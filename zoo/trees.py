"""Trees of tokens: several continuations of one growing prefix, in one pass.

A tree is a list of nodes; a node's tokens follow those of its parent, and it is seen by the nodes
below it only. Siblings never see each other, so a pass under `tree_mask`, with positions that count
from the root, gives every node what a sequence of its own would:

    prompt + a + c      3 sequences: prompt a c, prompt a d, prompt b
           |   + d      1 tree:      prompt a b c d, the prompt and `a` run once
           + b

The first token of a node is predicted by its parent's last one, which has several targets then: a
tree's targets are lists of (row, label), not a label per row.

Shapes: B trees, L tokens, M nodes, T targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from zoo.encoding import NO_HEAD, Batch, pad_rows
from zoo.nn.attention import FLEX
from zoo.nn.blocks import sliding_window, windowed_mask


@dataclass(frozen=True, slots=True)
class Node:
    """A piece of a tree.

    Attributes:
        ids: Its token ids, at least one.
        parent: Index of the node it follows, which stands before it in the tree; None for a root.
        head: Index of the head that learns its tokens; `NO_HEAD` for context. A root's first token
            is never learned.
        weight: Weight of each of its tokens in the loss.
    """

    ids: Sequence[int]
    parent: int | None = None
    head: int = NO_HEAD
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Tree:
    """An encoded sample whose tokens are a tree.

    Attributes:
        nodes: The nodes, parents first.
        record: The record it was made from.
    """

    nodes: tuple[Node, ...]
    record: Any = None

    def __len__(self) -> int:
        """Return the number of tokens that one pass runs."""
        return sum(len(node.ids) for node in self.nodes)

    def head_weights(self) -> dict[int, float]:
        """Return the supervised weight of each head that occurs."""
        totals: dict[int, float] = {}
        for node in self.nodes:
            if node.head != NO_HEAD:
                learned = len(node.ids) - (node.parent is None)
                totals[node.head] = totals.get(node.head, 0.0) + learned * node.weight
        return totals

    def path(self, index: int) -> list[int]:
        """Return the token ids from the root to the end of a node: its sequence of its own."""
        node = self.nodes[index]
        above = [] if node.parent is None else self.path(node.parent)
        return [*above, *node.ids]


@dataclass(slots=True)
class TreeBatch(Batch):
    """Token tensors of trees, a row each, padded on the right.

    `labels`, `head_ids` and `weights` are those of the targets, `(T,)`; `attention_mask` says which
    slots are tokens, and `tree_mask` what each of them sees.

    Attributes:
        rows: Slot that predicts each target, counted over all slots of the batch, `(T,)`.
        nodes: Learned node that each target belongs to, counted over the batch, `(T,)`.
        node_ids: Node of each slot in its tree, 0 for padding, `(B, L)`.
        ancestors: Whether the second node is the first one or above it, `(B, M, M)`, bool.
        num_learned: Number of learned nodes.
    """

    rows: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    nodes: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    node_ids: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.long))
    ancestors: Tensor = field(default_factory=lambda: torch.empty(0, 0, 0, dtype=torch.bool))
    num_learned: int = 0


def collate_trees(
    trees: Sequence[Tree], normalizers: dict[int, float] | None = None, *, pad_id: int = 0
) -> TreeBatch:
    """Join trees into one batch.

    Args:
        trees: At least one tree.
        normalizers: See `Batch`; None or an empty one for the supervised weight of this batch.
        pad_id: Token id of the padding.

    Raises:
        ValueError: A node is empty, or stands before its parent.
    """
    totals: dict[int, float] = {}
    for tree in trees:
        _check(tree)
        for head, weight in tree.head_weights().items():
            totals[head] = totals.get(head, 0.0) + weight
    slots = [[token for node in tree.nodes for token in node.ids] for tree in trees]
    input_ids, mask = pad_rows(slots, pad_id)
    width = input_ids.shape[1]
    columns = list(zip(*_targets(trees, width), strict=True)) or [()] * 5
    rows, labels, heads, weights, nodes = columns
    return TreeBatch(
        input_ids=input_ids,
        labels=torch.tensor(labels, dtype=torch.long),
        head_ids=torch.tensor(heads, dtype=torch.long),
        weights=torch.tensor(weights, dtype=torch.float32),
        position_ids=pad_rows([_places(tree)[0] for tree in trees], 0)[0],
        lengths=[len(row) for row in slots],
        attention_mask=mask,
        normalizers=normalizers or totals,
        records=[tree.record for tree in trees],
        rows=torch.tensor(rows, dtype=torch.long),
        nodes=torch.tensor(nodes, dtype=torch.long),
        node_ids=pad_rows(
            [[i for i, node in enumerate(tree.nodes) for _ in node.ids] for tree in trees], 0
        )[0],
        ancestors=_ancestors(trees),
        num_learned=sum(node.head != NO_HEAD for tree in trees for node in tree.nodes),
    )


def tree_mask(config: Any, tree: TreeBatch) -> Any:
    """Return which slots each slot sees: those of its node before it, and of the nodes above.

    Args:
        config: The backbone's config; a sliding window counts tokens on the way to the root.
        tree: The trees.

    Returns:
        `(B, 1, L, L)`, bool; a mapping of two such masks if blocks have different windows.
    """
    size, width = tree.ancestors.shape[1], tree.input_ids.shape[1]
    owners_BL = tree.node_ids
    above_BLM = tree.ancestors.gather(1, owners_BL[:, :, None].expand(-1, -1, size))
    above_BLL = above_BLM.gather(2, owners_BL[:, None].expand(-1, width, -1))
    assert tree.attention_mask is not None
    slots_L = torch.arange(width, device=owners_BL.device)
    itself_LL = slots_L[:, None] == slots_L  # padding sees itself: no empty softmax
    seen_BLL = above_BLL & (slots_L <= slots_L[:, None]) & tree.attention_mask.bool()[:, None]
    return windowed_mask(config, seen_BLL | itself_LL, tree.position_ids)


def tree_attention(lm: Any, tree: TreeBatch) -> Any:
    """Return what the blocks of a model take as attention mask to read trees under `tree_mask`.

    That is what is added to scores, 0 where a slot sees, else -inf: the blocks share it, where of a
    mask of bools each of them would make such a tensor of its own and keep it for the backward
    pass. With `backbone.attention: flex_attention` it is a `BlockMask`.

    Args:
        lm: The backbone; what is added has the type that it computes in.
        tree: The trees.

    Returns:
        `(B, 1, L, L)`, or a mask of blocks; a mapping of two if blocks have different windows.
    """
    if lm.config._attn_implementation == FLEX:
        return tree_blocks(lm.config, tree)
    device, mask = tree.input_ids.device.type, tree_mask(lm.config, tree)
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else lm.dtype

    def bias(seen_BLL: Tensor) -> Tensor:
        return torch.zeros_like(seen_BLL, dtype=dtype).masked_fill_(~seen_BLL, -torch.inf)

    if isinstance(mask, dict):
        return {name: bias(seen_BLL) for name, seen_BLL in mask.items()}
    return bias(mask)


def tree_blocks(config: Any, tree: TreeBatch) -> Any:
    """Return `tree_mask` as FlexAttention takes it; on CUDA no tensor of pairs of slots exists.

    Args:
        config: The backbone's config.
        tree: The trees.

    Returns:
        A `BlockMask` over `(B, 1, L, L)`; a mapping of two if blocks have different windows.
    """
    assert tree.attention_mask is not None
    owners_BL, above_BMM, places_BL = tree.node_ids, tree.ancestors, tree.position_ids
    tokens_BL = tree.attention_mask.bool()

    def full(row: Tensor, head: Tensor, slot: Tensor, seen: Tensor) -> Tensor:
        above = above_BMM[row, owners_BL[row, slot], owners_BL[row, seen]]
        return (above & (seen <= slot) & tokens_BL[row, seen]) | (slot == seen)

    def blocks(seen_by: Any) -> Any:
        (batch, width), device = tree.input_ids.shape, tree.input_ids.device
        kernel = device.type == "cuda"  # elsewhere all pairs are tried at once
        return create_block_mask(seen_by, batch, None, width, width, device=device, _compile=kernel)

    window = sliding_window(config)
    if window is None:
        return blocks(full)

    def sliding(row: Tensor, head: Tensor, slot: Tensor, seen: Tensor) -> Tensor:
        near = places_BL[row, slot] - places_BL[row, seen] < window
        return full(row, head, slot, seen) & near

    if getattr(config, "layer_types", None) is None:
        return blocks(sliding)
    return {"full_attention": blocks(full), "sliding_attention": blocks(sliding)}


def _check(tree: Tree) -> None:
    for i, node in enumerate(tree.nodes):
        if not len(node.ids) or (node.parent is not None and not 0 <= node.parent < i):
            raise ValueError(f"node {i} of a tree is empty, or stands before its parent")


def _places(tree: Tree) -> tuple[list[int], list[int]]:
    """Return the position of each token, counted from the root, and each node's first slot."""
    positions: list[int] = []
    starts: list[int] = []
    depths: list[int] = []  # tokens from the root to a node's end
    for node in tree.nodes:
        depth = 0 if node.parent is None else depths[node.parent]
        starts.append(len(positions))
        positions += range(depth, depth + len(node.ids))
        depths.append(depth + len(node.ids))
    return positions, starts


def _targets(trees: Sequence[Tree], width: int) -> list[tuple[int, int, int, float, int]]:
    """Return slot, token, head, weight and learned node of each target; a row has `width` slots."""
    targets = []
    learned = 0
    for row, tree in enumerate(trees):
        _, starts = _places(tree)
        for start, node in zip(starts, tree.nodes, strict=True):
            if node.head == NO_HEAD:
                continue
            before = [row * width + start + j for j in range(-1, len(node.ids) - 1)]
            if node.parent is not None:
                parent = starts[node.parent] + len(tree.nodes[node.parent].ids) - 1
                before[0] = row * width + parent
            for j, (slot, token) in enumerate(zip(before, node.ids, strict=True)):
                if j or node.parent is not None:
                    targets.append((slot, token, node.head, node.weight, learned))
            learned += 1
    return targets


def _ancestors(trees: Sequence[Tree]) -> Tensor:
    """Return for each node which nodes it sees: itself and those above, `(B, M, M)`."""
    size = max(len(tree.nodes) for tree in trees)
    table = torch.eye(size, dtype=torch.bool).repeat(len(trees), 1, 1)
    for row, tree in zip(table, trees, strict=True):
        for i, node in enumerate(tree.nodes):
            if node.parent is not None:
                row[i] |= row[node.parent]
    return table
