"""A tree in one pass against a sequence of its own for every node, in float64."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sliding_models import WINDOW, sliding
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_mask

from zoo.encoding import collate, join
from zoo.errors import InputError
from zoo.losses.preference import node_log_probs, sequence_log_probs
from zoo.nn.attention import FLEX, implementation
from zoo.nn.blocks import Blocks, num_blocks, place
from zoo.trees import Node, Tree, TreeBatch, collate_trees, tree_attention, tree_blocks, tree_mask

PROMPT, SEGMENTS, LEAVES, VOCABULARY = 20, 5, 10, 60
Change = Callable[[TreeBatch, Any], dict[str, Any]]


def growing(seed: int = 0) -> Tree:
    """Return a prompt, and segments whose leaves hang on one leaf of the segment before."""
    draw = random.Random(seed)
    words = iter(lambda: draw.randrange(1, VOCABULARY), None)
    nodes = [Node([next(words) for _ in range(PROMPT)])]
    parent = 0
    for _ in range(SEGMENTS):
        leaves = range(len(nodes), len(nodes) + LEAVES)
        nodes += [
            Node([next(words) for _ in range(draw.randint(4, 8))], parent, head=0) for _ in leaves
        ]
        parent = draw.choice(leaves)
    return Tree(tuple(nodes))


def backbone(name: str) -> Any:
    """Return a model in float64; weights that are large enough to tell one text from another."""
    if name in ("mistral", "gemma3"):
        return sliding(name).double()
    from zoo import Backbone
    from zoo.backbone import load

    lm, _ = load(Backbone(name=name))
    with torch.no_grad():
        for parameter in lm.model.layers.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return lm.double().eval()


def alone(lm: Any, trees: list[Tree]) -> Tensor:
    """Return the log-probability of each learned node, from sequences of their own."""
    examples = [
        join([(tree.path(node.parent), -1, 0.0), (node.ids, 0, 1.0)])
        for tree in trees
        for node in tree.nodes
        if node.parent is not None
    ]
    batch = collate(examples)
    states = Blocks(lm, 0, num_blocks(lm))(batch.input_ids, **place(batch))
    return sequence_log_probs(states, batch, lm.lm_head.weight, lm.model.norm)


def at_once(lm: Any, trees: list[Tree], change: Change | None = None) -> Tensor:
    """Return the same from one pass."""
    batch = collate_trees(trees)
    where = place(batch) | {"attention_mask": tree_attention(lm, batch)}
    if change is not None:
        where |= change(batch, lm)
    states = Blocks(lm, 0, num_blocks(lm))(batch.input_ids, **where)
    return node_log_probs(states, batch, lm.lm_head.weight, lm.model.norm)


def apart(lm: Any, trees: list[Tree], change: Change | None = None) -> tuple[float, float]:
    """Return the largest differences of values and, relative to the largest one, of gradients."""
    weights = [p for p in lm.parameters() if p.requires_grad]
    results = []
    for values in (alone(lm, trees), at_once(lm, trees, change)):
        slope = torch.linspace(-1, 1, len(values), dtype=values.dtype)
        results.append((values.detach(), torch.autograd.grad((values * slope).sum(), weights)))
    (values, gradients), (others, other_gradients) = results
    largest = max(float(g.abs().max()) for g in gradients)
    error = max(float((g - h).abs().max()) for g, h in zip(gradients, other_gradients, strict=True))
    return float((values - others).abs().max()), error / largest


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2", "tiny-gemma", "mistral", "gemma3"])
def test_one_pass_equals_a_sequence_for_each_leaf(name: str) -> None:
    """Values and gradients; the last two have windows shorter than the texts.

    Norms round to float32 inside, which doubles on either side of a rounding edge make visible.
    """
    assert PROMPT > WINDOW
    trees = [growing(0), Tree(growing(1).nodes[:12])]  # two rows, one padded
    value, gradient = apart(backbone(name), trees)
    assert value < 1e-6
    assert gradient < 1e-6


@pytest.mark.parametrize("name", ["tiny-llama", "mistral", "gemma3"])
def test_masks_of_blocks_are_the_tree_mask(name: str) -> None:
    """A padded row, and windows shorter than the texts in one or all blocks."""
    config = backbone(name).config
    batch = collate_trees([growing(0), Tree(growing(1).nodes[:12])])
    wanted, blocks = tree_mask(config, batch), tree_blocks(config, batch)
    if not isinstance(wanted, dict):
        wanted, blocks = {"all": wanted}, {"all": blocks}
    assert wanted.keys() == blocks.keys()
    for kind, mask in wanted.items():
        rows, _, width, _ = mask.shape
        seen = create_mask(blocks[kind].mask_mod, rows, None, width, width, device="cpu")
        assert torch.equal(seen, mask)


@pytest.mark.parametrize("name", ["tiny-qwen2", "gemma3"])
def test_flex_attention_equals_a_sequence_for_each_leaf(name: str) -> None:
    """Groups of heads that share keys; the second has windows in some blocks. It has no backward
    pass on a processor; `test_cuda.py` compares gradients on a card."""
    lm, trees = backbone(name), [growing(0), Tree(growing(1).nodes[:12])]
    with torch.no_grad():
        wanted = alone(lm, trees)
        lm.config._attn_implementation = FLEX
        found = at_once(lm, trees)
    assert isinstance(tree_attention(lm, collate_trees(trees)), BlockMask | dict)
    assert (wanted - found).abs().max() < 1e-6


def test_flex_attention_needs_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="flex_attention trains on CUDA only; use sdpa"):
        implementation("flex_attention")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert implementation("flex_attention") == FLEX


def causal(batch: TreeBatch, lm: Any) -> dict[str, Any]:
    size = batch.input_ids.shape[1]
    return {"attention_mask": torch.ones(size, size, dtype=torch.bool).tril()[None, None]}


def running(batch: TreeBatch, lm: Any) -> dict[str, Any]:
    return {"position_ids": torch.arange(batch.input_ids.shape[1])[None]}


@pytest.mark.parametrize("control", [causal, running])
def test_controls_must_fail(control: Change) -> None:
    """A plain causal mask, and positions that run on over siblings, are another model."""
    value, gradient = apart(backbone("tiny-llama"), [growing()], control)
    assert value > 1e-3
    assert gradient > 1e-4


def test_tokens_that_a_pass_runs() -> None:
    """The leaves that carry the prefix on are run once, and serve as both."""
    tree = growing()
    sequences = [tree.path(i) for i, node in enumerate(tree.nodes) if node.parent is not None]
    assert len(tree) == PROMPT + sum(len(node.ids) for node in tree.nodes[1:])
    assert len(sequences) == SEGMENTS * LEAVES
    assert sum(map(len, sequences)) / len(tree) > 5
    batch = collate_trees([tree])
    assert batch.num_tokens == len(tree)
    assert batch.num_supervised == len(tree) - PROMPT == batch.normalizers[0]


def test_a_root_learns_no_first_token() -> None:
    batch = collate_trees([Tree((Node([3, 4, 5], head=0), Node([6], 0, head=1, weight=0.5)))])
    assert batch.labels.tolist() == [4, 5, 6]
    assert batch.rows.tolist() == [0, 1, 2]
    assert batch.nodes.tolist() == [0, 0, 1]
    assert batch.weights.tolist() == [1.0, 1.0, 0.5]
    assert batch.normalizers == {0: 2.0, 1: 0.5}


@pytest.mark.parametrize("nodes", [(Node([]),), (Node([1], 0),), (Node([1]), Node([2], 1))])
def test_what_is_no_tree(nodes: tuple[Node, ...]) -> None:
    with pytest.raises(ValueError, match="node"):
        collate_trees([Tree(nodes)])
