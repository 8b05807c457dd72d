"""Views of blocks: their states are Hugging Face's, packed or padded, with sliding windows too."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from sliding_models import plain, sliding
from torch import Tensor
from transformers.cache_utils import DynamicCache

from zoo.encoding import Example, collate
from zoo.nn.blocks import (
    ROOM,
    Blocks,
    ShiftedCache,
    begin_rows,
    explicit_mask,
    grow_mask,
    keep_first,
    num_blocks,
    place,
)
from zoo.nn.heads import copy_of_head


@pytest.fixture(params=["tiny-llama", "tiny-qwen2", "tiny-gemma", "mistral", "gemma3"])
def lm(request: pytest.FixtureRequest, make: Callable[..., Any]) -> Any:
    """The three shapes of the zoo and two with sliding windows."""
    if request.param.startswith("tiny"):
        return make("SFT", request.param, spread=8.0).lm
    return sliding(request.param)


def rows(lengths: tuple[int, ...] = (4, 11, 7)) -> list[list[int]]:
    return [torch.randint(1, 60, (n,)).tolist() for n in lengths]


def batch_of(ids: list[list[int]], *, packed: bool) -> Any:
    examples = [Example(row, [-100] * len(row), [-1] * len(row), [0.0] * len(row)) for row in ids]
    return collate(examples, {}, packed=packed)


@torch.no_grad()
@pytest.mark.parametrize("packed", [True, False])
def test_states_and_logits_are_those_of_hugging_face(lm: Any, packed: bool) -> None:
    ids = rows()
    batch = batch_of(ids, packed=packed)
    where = place(batch)
    for k in (1, 2, 3):
        middle = Blocks(lm, 0, k)(batch.input_ids, **where)
        top = Blocks(lm, k, num_blocks(lm))(middle, **where)
        logits = lm.lm_head(lm.model.norm(top))
        for i, row in enumerate(ids):
            expected = plain(lm, row)
            at = (
                slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
                if packed
                else slice(len(row))
            )
            line = 0 if packed else i
            torch.testing.assert_close(
                middle[line, at], expected.hidden_states[k][0], rtol=1e-4, atol=1e-4
            )
            torch.testing.assert_close(logits[line, at], expected.logits[0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_the_window_matters_here(name: str) -> None:
    """Without its window the sliding model gives other states, so the test above can fail."""
    lm = sliding(name)
    (row,) = rows((11,))
    before = plain(lm, row).logits
    for block in lm.model.layers:
        block.self_attn.sliding_window = None
    lm.config.sliding_window = 1000
    if name == "gemma3":
        lm.config.layer_types = ["full_attention"] * 4
    assert not torch.allclose(before, plain(lm, row).logits, atol=1e-2)


def test_packed_and_padded_have_the_same_gradients(lm: Any) -> None:
    ids = rows()
    lm.requires_grad_(True)
    found = []
    for packed in (True, False):
        batch = batch_of(ids, packed=packed)
        states = Blocks(lm, 0, 3)(batch.input_ids, **place(batch))
        real = states[0] if packed else states[batch.attention_mask.bool()]
        weights = torch.linspace(-1, 1, real.numel()).view_as(real)
        lm.zero_grad()
        (real * weights).sum().backward()
        found.append({n: p.grad.clone() for n, p in lm.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-5 * scale + 1e-8)


def test_packed_neighbours_do_not_see_each_other(lm: Any) -> None:
    first, second = rows((6, 9))
    batch = batch_of([first, second], packed=True)
    embedded = lm.model.embed_tokens(batch.input_ids).detach().requires_grad_()
    states = Blocks(lm, 1, 4)(embedded, **place(batch))
    states[0, 6:].sum().backward()
    assert not embedded.grad[0, :6].any()
    assert embedded.grad[0, 6:].any(-1).all()


def test_a_view_shares_parameters_and_registers_nothing(make: Callable[..., Any]) -> None:
    module = make("SFT", "tiny-llama")
    names = [name for name, _ in module.named_parameters()]
    config = module.lm.config.num_hidden_layers
    view = Blocks(module.lm, 1, 3)
    ours = {p.data_ptr() for p in view.view.layers.parameters()}
    assert ours == {p.data_ptr() for b in module.lm.model.layers[1:3] for p in b.parameters()}
    assert [name for name, _ in module.named_parameters()] == names
    assert len(module.lm.model.layers) == 4
    assert module.lm.config.num_hidden_layers == config
    assert not isinstance(module.lm.model.norm, torch.nn.Identity)


@torch.no_grad()
def test_an_empty_view_passes_states_on(lm: Any) -> None:
    ids = torch.tensor(rows((5,)))
    states = Blocks(lm, 0, 0)(ids)
    torch.testing.assert_close(states, lm.model.embed_tokens(ids))
    assert Blocks(lm, 2, 2)(states) is states


def test_padding_free_attention_builds_no_square_mask(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packed batch of many sequences runs attention per sequence, with no mask at all."""
    lm = make("SFT", "tiny-llama").lm
    seen = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def watched(query: Any, key: Any, value: Any, **options: Any) -> Any:
        seen.append((query.shape[2], options.get("attn_mask")))
        return attend(query, key, value, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    batch = batch_of(rows((4, 11, 7)), packed=True)
    Blocks(lm, 0, 1)(batch.input_ids, **place(batch))
    assert seen == [(4, None), (11, None), (7, None)]


def test_head_copy_is_untied(make: Callable[..., Any], shape: str) -> None:
    lm = make("SFT", shape).lm
    lm.requires_grad_(False)
    head = copy_of_head(lm)
    assert head.weight.requires_grad
    assert torch.equal(head.weight, lm.lm_head.weight)
    assert (
        head.weight.untyped_storage().data_ptr() != lm.lm_head.weight.untyped_storage().data_ptr()
    )
    assert head.weight.is_contiguous()


def test_a_cache_with_room_holds_what_is_appended() -> None:
    """Also after slots are dropped and others take their place; a dropped view is not reused."""
    generator = torch.Generator().manual_seed(0)

    def states(new: int) -> tuple[Tensor, Tensor]:
        first = torch.randn(2, 3, new, 4, generator=generator)
        return first, first[..., :3] + 1  # some models' values are narrower than their keys

    cache, plain = ShiftedCache(2), DynamicCache()
    copies = set()
    for new, keep in ((5, 5), (1, 6), (ROOM, 7), (ROOM + 9, 9), (2, 11), (ROOM + 40, 200)):
        part = states(new)
        found = cache.update(*part, 2)
        for one, other in zip(found, plain.update(*part, 0), strict=True):
            assert torch.equal(one, other)
        copies.add(cache.layers[0].keys.data_ptr())
        for each in (cache, plain):
            keep_first(each, min(keep, each.get_seq_length()))
    assert len(copies) < 5, "small steps fit the room"


@pytest.mark.parametrize("length", [2, 5])
def test_rows_of_a_cache_begin_anew(length: int) -> None:
    """Their first slots are the new ones; other rows keep theirs and get room where it lacks."""
    held = torch.arange(1.0, 10).view(3, 1, 3, 1)
    cache, rows = ShiftedCache(0), torch.tensor([2, 0])
    begin_rows(cache, 0, torch.arange(3), held.clone(), -held.clone())
    new = 100 + torch.arange(2.0 * length).view(2, 1, length, 1)
    begin_rows(cache, 0, rows, new, -new)
    layer: Any = cache.layers[0]
    assert layer.keys.shape == layer.values.shape == (3, 1, max(3, length), 1)
    for kept, sign in ((layer.keys, 1), (layer.values, -1)):
        assert torch.equal(sign * kept[rows, :, :length], new)
        assert torch.equal(sign * kept[1, :, :3], held[1])
        assert not kept[1, :, 3:].any()


def test_a_cache_that_learns_keeps_its_gradients() -> None:
    cache, part = ShiftedCache(0), torch.randn(1, 1, 2, 3, requires_grad=True)
    cache.update(part, part, 0)
    keys, _ = cache.update(2 * part, part, 0)
    keys.sum().backward()
    assert torch.equal(part.grad, torch.full_like(part, 3.0))


def test_a_cache_of_inference_mode_can_be_used_outside() -> None:
    part = torch.ones(1, 1, 2, 3)
    cache = ShiftedCache(0)
    with torch.inference_mode():
        cache.update(part, part, 0)
        cache.update(part, part, 0)
    with torch.no_grad():
        keys, _ = cache.update(part, part, 0)
    assert torch.equal(keys, torch.ones(1, 1, 6, 3))


@pytest.mark.parametrize("kinds", [None, ["full_attention", "sliding_attention"]])
def test_a_window_counts_tokens_and_not_slots(kinds: list[str] | None) -> None:
    """A slot sees the tokens before it that are less than a window away, and itself, holes too."""
    window, new = 3, 4
    mask = torch.tensor([[1, 1, 0, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, 1]])
    positions = mask.cumsum(1) - 1
    config = SimpleNamespace(sliding_window=window, layer_types=kinds)
    found = explicit_mask(config, mask, positions, new)
    sliding = found if kinds is None else found["sliding_attention"]
    assert sliding.shape == (2, 1, new, 8)
    for b, row in enumerate(sliding[:, 0]):
        for t, seen in enumerate(row, start=8 - new):
            far = positions[b, t] - positions[b]
            near = [bool(mask[b, j]) and j <= t and int(far[j]) < window for j in range(8)]
            assert seen.tolist() == [near[j] or j == t for j in range(8)], (b, t)
    everything = explicit_mask(SimpleNamespace(), mask, positions, new)
    if kinds is not None:
        assert torch.equal(found["full_attention"], everything)
        found = grow_mask(config, mask, positions, new)["sliding_attention"]
        assert torch.equal(found, sliding)
    assert everything[0, 0, -1].tolist() == [True, True, False, False, True, True, True, True]
    assert grow_mask(SimpleNamespace(), mask, positions, new) is mask
