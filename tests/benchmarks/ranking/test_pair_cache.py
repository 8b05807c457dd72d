"""States that are kept by pair are those of a run of the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import zoo
from benchmarks.ranking.pair_cache import PairCache
from datamodules import ESConvStrategies
from zoo.methods.rabtriever.frozen_states import FrozenStates


def test_pairs_are_run_once_and_are_those_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second batch has known pairs, new ones and another order."""
    module = zoo.Rabtriever(backbone={"name": "tiny-llama"}, document_tokens=32, max_length=1024)
    module.configure_model()
    module.eval()
    records = ESConvStrategies(max_turns=2).records("test")[:3]
    pairs = [pair for record in records for pair in module.encoder()(record)]
    cache, ran = PairCache(module.frozen.slot, 2**20), []
    run = FrozenStates.pairs

    def counted(self: FrozenStates, lm: Any, heads: Any, *rest: Any) -> Any:
        ran.append(len(heads))
        return run(self, lm, heads, *rest)

    monkeypatch.setattr(FrozenStates, "pairs", counted)
    for batch in (pairs[:10], pairs[:4:-1]):
        heads, tails = [pair.head for pair in batch], [pair.tail for pair in batch]
        found = cache.pairs(module.lm, heads, tails)
        wanted = run(FrozenStates(module.frozen.slot, 0), module.lm, heads, tails)
        assert torch.equal(found.real, wanted.real)
        assert torch.equal(found.last, wanted.last)
        torch.testing.assert_close(found.ends, wanted.ends)
        torch.testing.assert_close(found.seeing[found.real], wanted.seeing[wanted.real])
        torch.testing.assert_close(found.blind[found.real], wanted.blind[wanted.real])
    assert ran == [10, len(pairs) - 10]
