"""Shared-prefix scoring: cached equals uncached, in both directions, padded, with windows too."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from sliding_models import plain, sliding
from torch.utils.flop_counter import FlopCounterMode

from zoo.decoding import prefix_cache as prefix
from zoo.decoding.batching import chunks, in_step
from zoo.decoding.option_logits import option_logits
from zoo.decoding.prefix_cache import (
    Prefixes,
    extend,
    last_states,
    prefill,
)

PREFIXES = [[7, 3, 9, 11, 2, 8, 1], [5], [4, 4, 6, 30]]
SUFFIXES = [[12, 13], [21, 22, 23, 24, 25, 26], [31]]
OPTIONS = [40, 41, 17]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(params=["tiny-llama", "tiny-qwen2", "tiny-gemma", "mistral", "gemma3"])
def lm(request: pytest.FixtureRequest, make: Callable[..., Any]) -> Any:
    """The three shapes of the zoo and two with windows shorter than the sequences."""
    if request.param.startswith("tiny"):
        return make("SFT", request.param, spread=8.0).lm
    return sliding(request.param)


def read(lm: Any, states: torch.Tensor) -> torch.Tensor:
    return option_logits(states, lm.model.norm, lm.lm_head.weight, OPTIONS)


def uncached(lm: Any, prefix_ids: list[int], suffix: list[int]) -> torch.Tensor:
    """Hugging Face's logits of the options after prefix and suffix, run together."""
    return plain(lm, prefix_ids + suffix).logits[0, -1, OPTIONS]


@torch.no_grad()
@pytest.mark.parametrize("slot", [None, 9])
def test_every_pair_scores_as_without_cache(lm: Any, slot: int | None) -> None:
    pairs = [(p, s) for p in range(3) for s in range(3)]
    prefixes = prefill(lm, PREFIXES, slot=slot)
    logits = read(
        lm, last_states(lm, prefixes, [p for p, _ in pairs], [SUFFIXES[s] for _, s in pairs])
    )
    for (p, s), row in zip(pairs, logits, strict=True):
        torch.testing.assert_close(row, uncached(lm, PREFIXES[p], SUFFIXES[s]), **CLOSE)
    spread = (logits[:, 0] - logits[:, 1]).std()
    assert spread > 0.05, "the pairs must differ, or equality proves nothing"


@torch.no_grad()
def test_both_directions(lm: Any) -> None:
    """One prefix with many suffixes, and many prefixes with the same suffix, as in a batch."""
    one = prefill(lm, PREFIXES[:1])
    states = last_states(lm, one, [0, 0, 0], SUFFIXES)
    for suffix, row in zip(SUFFIXES, read(lm, states), strict=True):
        torch.testing.assert_close(row, uncached(lm, PREFIXES[0], suffix), **CLOSE)
    many = prefill(lm, PREFIXES)
    states = last_states(lm, many, [0, 1, 2], [SUFFIXES[1]] * 3)
    for ids, row in zip(PREFIXES, read(lm, states), strict=True):
        torch.testing.assert_close(row, uncached(lm, ids, SUFFIXES[1]), **CLOSE)


@torch.no_grad()
def test_all_states_and_those_of_the_prefix(lm: Any) -> None:
    prefixes = prefill(lm, PREFIXES, slot=8)
    states, lengths = extend(lm, prefixes, [2, 0], SUFFIXES[:2])
    assert lengths == [2, 6]
    for owner, row, suffix in zip([2, 0], states, SUFFIXES, strict=False):
        expected = plain(lm, PREFIXES[owner] + suffix)
        ours = lm.lm_head(lm.model.norm(row[: len(suffix)]))
        torch.testing.assert_close(ours, expected.logits[0, -len(suffix) :], **CLOSE)
        last = lm.lm_head(lm.model.norm(prefixes.last[owner]))
        torch.testing.assert_close(last, expected.logits[0, -len(suffix) - 1], **CLOSE)


@torch.no_grad()
def test_split_and_join_change_nothing(lm: Any) -> None:
    """Prefixes stored one by one and joined in another order score the same."""
    together = prefill(lm, PREFIXES)
    parts = together.split()
    assert [len(p) for p in parts] == [1, 1, 1]
    assert sum(p.num_bytes for p in parts) < together.num_bytes  # no padding
    joined = Prefixes.join([parts[2], parts[0]])
    ours = last_states(lm, joined, [1, 0, 1], SUFFIXES)
    expected = last_states(lm, together, [0, 2, 0], SUFFIXES)
    torch.testing.assert_close(ours, expected, **CLOSE)
    small = prefill(lm, PREFIXES, budget=1)  # one at a time; chunks come longest first
    torch.testing.assert_close(
        last_states(lm, small, [0, 1, 2], SUFFIXES),
        last_states(lm, together, [0, 1, 2], SUFFIXES),
        **CLOSE,
    )


@torch.no_grad()
def test_prefixes_keep_their_order_in_any_chunks(lm: Any) -> None:
    ids = [[9], [8, 7, 6, 5], [3, 2]]
    for budget in (1, 5, 100):
        found = prefill(lm, ids, budget=budget)
        assert found.ends.tolist() == [1, 4, 2]
        for i, row in enumerate(ids):
            torch.testing.assert_close(found.last[i], prefill(lm, [row]).last[0], **CLOSE)


@torch.no_grad()
def test_a_prefix_is_run_once_and_the_head_for_its_options_only(make: Callable[..., Any]) -> None:
    """FLOPs: tokens x blocks, as counted; no row of the head but those of the options."""
    lm = make("SFT", "tiny-llama").lm
    ids, suffixes = [list(range(1, 41))], [[3, 4, 5, 6]] * 16

    def flops(run: Callable[[], Any]) -> int:
        with FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops()

    linear = 2 * sum(p.numel() for p in lm.model.layers.parameters() if p.ndim > 1)
    prefixes = prefill(lm, ids)
    cached = flops(lambda: read(lm, last_states(lm, prefixes, [0] * 16, suffixes)))
    head = 2 * 16 * 32 * len(OPTIONS)
    assert cached == 16 * 4 * linear + head  # attention on a CPU is not counted


def test_prefix_memory_is_a_view(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of one prefix share its memory; nothing is kept after the call."""
    lm = make("SFT", "tiny-llama").lm
    with torch.no_grad():
        prefixes = prefill(lm, PREFIXES[:1])
    layer = prefix._SharedLayer(prefixes.keys[0], prefixes.values[0], torch.zeros(64).long())
    rows = layer._rows(prefixes.keys[0], 64)
    assert rows.shape[0] == 64
    assert rows.untyped_storage().data_ptr() == prefixes.keys[0].untyped_storage().data_ptr()
    before = prefixes.keys[0].clone()
    with torch.no_grad():
        last_states(lm, prefixes, [0] * 3, SUFFIXES)
    assert torch.equal(prefixes.keys[0], before)


def test_option_logits_are_float32_rows_of_the_head(make: Callable[..., Any]) -> None:
    lm = make("SFT", "tiny-gemma", backbone={"dtype": "bfloat16"}).lm
    states = torch.randn(5, 32, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = read(lm, states)
    assert found.dtype == torch.float32
    wide = lm.model.norm(states).float() @ lm.lm_head.weight.float().t()
    torch.testing.assert_close(found, wide[:, OPTIONS])


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        prefill(None, [[1], []])
    with pytest.raises(ValueError, match="at least one token"):
        prefill(None, [])
    with pytest.raises(ValueError, match="3 tokens does not fit a slot of 2"):
        prefill(None, [[1, 2, 3]], slot=2)


@torch.no_grad()
def test_a_prefix_may_fill_its_slot(make: Callable[..., Any]) -> None:
    lm = make("SFT", "tiny-llama").lm
    full = prefill(lm, [[1, 2, 3]], slot=3)
    assert (full.starts.tolist(), full.ends.tolist()) == ([0], [3])
    torch.testing.assert_close(full.last, prefill(lm, [[1, 2, 3]]).last)
    with pytest.raises(ValueError, match="a suffix needs at least one token"):
        extend(lm, full, [0, 0], [[1], []])


def test_chunks_cover_everything_within_the_budget() -> None:
    lengths = [3, 9, 1, 4, 4, 20, 2]
    for budget in (1, 8, 12, 100):
        for padded in (True, False):
            groups = list(chunks(list(range(7)), lengths, budget, padded=padded))
            assert sorted(i for group in groups for i in group) == list(range(7))
            for group in groups:
                sizes = [lengths[i] for i in group]
                cost = len(sizes) * max(sizes) if padded else sum(sizes)
                assert cost <= budget or len(group) == 1
            for group, after in pairwise(groups):  # none is smaller than it could be
                more = [lengths[i] for i in [*group, after[0]]]
                assert (len(more) * max(more) if padded else sum(more)) > budget


def test_in_step_waits_for_the_slowest() -> None:
    assert list(in_step("abc")) == [("a", True), ("b", True), ("c", True)]
    others = iter([False, False, False, True])  # another process has three chunks
    agreed = list(in_step("a", lambda done: done and next(others)))
    assert agreed == [("a", True), ("a", False), ("a", False), ("a", False)]


@torch.no_grad()
def test_a_prefix_by_itself_has_memory_of_its_own(make: Callable[..., Any]) -> None:
    """Its own slots, states and bytes; joined with itself it is a batch again."""
    lm = make("SFT", "tiny-llama", spread=8.0).lm
    together = prefill(lm, PREFIXES, slot=9)
    assert together.starts.tolist() == [9 - len(row) for row in PREFIXES]
    assert together.ends.tolist() == [9] * 3
    parts = prefill(lm, PREFIXES).split()
    config = lm.config
    width = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    for i, part in enumerate(parts):
        assert (part.starts.tolist(), part.ends.tolist()) == ([0], [len(PREFIXES[i])])
        torch.testing.assert_close(part.last[0], together.last[i], **CLOSE)
        tokens = 2 * config.num_hidden_layers * width * 4  # keys and values in float32
        assert part.num_bytes == len(PREFIXES[i]) * tokens
        for kept in (*part.keys, *part.values):
            assert kept.untyped_storage().nbytes() == kept.numel() * 4
    assert Prefixes.join(parts[:1]) is parts[0]
    joined = Prefixes.join(parts)
    assert len(joined) == 3
    assert joined.ends.tolist() == [len(row) for row in PREFIXES]
    assert joined.num_bytes == 3 * max(part.num_bytes for part in parts)
