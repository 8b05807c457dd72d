"""Reading many pairs: order, grouping, kept prefixes, processes in step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from zoo.decoding.prefix_cache import last_states, prefill
from zoo.ranking import pair_scoring as module
from zoo.ranking.pair_scoring import Store, pack, read_pairs, unpack

PREFIXES = {"a": [7, 3, 9, 11, 2, 8, 1], "b": [5], "c": [4, 4, 6, 30], "d": [9] * 12}
SUFFIXES = [[12, 13], [21, 22, 23, 24, 25, 26], [31]]
PAIRS = [("c", 1), ("a", 0), ("d", 2), ("a", 2), ("b", 1), ("c", 0), ("a", 1)]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture
def lm(make: Callable[..., Any], shape: str) -> Any:
    return make("SFT", shape, spread=8.0).lm


def first_numbers(states: torch.Tensor) -> torch.Tensor:
    return states[:, :3].float()


def alone(lm: Any, key: str, suffix: int) -> torch.Tensor:
    return first_numbers(last_states(lm, prefill(lm, [PREFIXES[key]]), [0], [SUFFIXES[suffix]]))[0]


@torch.no_grad()
@pytest.mark.parametrize("budget", [1, 8, 20, 4096])
def test_rows_come_in_the_order_of_the_pairs(lm: Any, budget: int) -> None:
    found = read_pairs(lm, PREFIXES, SUFFIXES, PAIRS, first_numbers, budget=budget)
    assert found.shape == (7, 3)
    for (key, suffix), row in zip(PAIRS, found, strict=True):
        torch.testing.assert_close(row, alone(lm, key, suffix), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("max_bytes", [0, 5000, 2**30])
def test_kept_prefixes_are_not_run_again(
    lm: Any, max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[int]] = []

    def watched(lm: Any, ids: Any, **options: Any) -> Any:
        ran.extend(ids)
        return prefill(lm, ids, **options)

    monkeypatch.setattr(module, "prefill", watched)
    store = Store(max_bytes)
    first = read_pairs(lm, PREFIXES, SUFFIXES, PAIRS, first_numbers, store=store, budget=12)
    assert sorted(ran) == sorted(PREFIXES.values())
    assert store.num_bytes <= max_bytes
    held = len(store)
    ran.clear()
    again = read_pairs(lm, PREFIXES, SUFFIXES, PAIRS, first_numbers, store=store, budget=12)
    assert len(ran) == 4 - held
    assert held == {0: 0, 2**30: 4}.get(max_bytes, held)
    torch.testing.assert_close(again, first, **CLOSE)


@torch.no_grad()
def test_the_store_drops_what_was_not_used_for_longest(lm: Any) -> None:
    parts = prefill(lm, [[1], [2], [3]]).split()
    store = Store(2 * parts[0].num_bytes)
    store.add("x", parts[0], parts[0].num_bytes)
    store.add("y", parts[1], parts[1].num_bytes)
    assert store.find("x") is parts[0]
    store.add("z", parts[2], parts[2].num_bytes)
    assert store.find("y") is None
    assert store.find("x") is not None
    assert store.num_bytes == 2 * parts[0].num_bytes


@torch.no_grad()
def test_processes_run_the_same_number_of_passes(lm: Any) -> None:
    """A process with one pair runs along until the one with many has finished."""
    passes: list[int] = []
    hook = lm.model.layers[0].register_forward_hook(lambda *_: passes.append(1))
    read_pairs(lm, PREFIXES, SUFFIXES, PAIRS, first_numbers, budget=8)
    many = len(passes)
    passes.clear()
    turns = iter(range(1, 100))
    found = read_pairs(
        lm,
        PREFIXES,
        SUFFIXES,
        PAIRS[:1],
        first_numbers,
        budget=8,
        everyone_done=lambda done: next(turns) > many and done,
    )
    hook.remove()
    assert len(passes) == many > 2
    torch.testing.assert_close(found[0], alone(lm, *PAIRS[0]), **CLOSE)


@torch.no_grad()
def test_packed_prefixes_come_back(lm: Any) -> None:
    ids = list(PREFIXES.values())
    states = pack(prefill(lm, ids))
    assert states["keys"].shape[:2] == (sum(map(len, ids)), 4)
    assert all(tensor.is_contiguous() for tensor in states.values())
    parts = unpack(states, torch.device("cpu"))
    for row, part, whole in zip(ids, parts, prefill(lm, ids).split(), strict=True):
        assert int(part.ends) == len(row)
        for kind in ("keys", "values"):
            for ours, expected in zip(getattr(part, kind), getattr(whole, kind), strict=True):
                assert torch.equal(ours, expected)
        assert torch.equal(part.last, whole.last)
