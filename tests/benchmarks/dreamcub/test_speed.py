"""Imagination in a batch and one by one: both sides write the same; what is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

import datamodules
from benchmarks.dreamcub import speed


def test_both_sides_write_the_same(tmp_path: Path) -> None:
    entry = speed.measure("tiny-llama", 2, 3, 1, 4, tmp_path)
    assert (entry["rows"], entry["tokens"], entry["run"]) == (2, 3, 4)
    assert entry["same_dialogues"] == 2
    assert entry["reply_tokens"] == 6
    assert entry["speedup"] == pytest.approx(entry["single_s"] / entry["batched_s"], rel=0.2)
    assert entry["bytes_ratio"] > 1


def test_a_small_model_has_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "esconv-2"
    monkeypatch.setattr(speed, "data_of", lambda name, seed: datamodules.ESConv(seed=seed))
    monkeypatch.setattr("benchmarks.dreamcub.small_base.STEPS", 2)
    monkeypatch.setattr("benchmarks.dreamcub.small_base.BATCH", 2)
    for name in speed.SMALL:
        module = speed.imagining(name, tmp_path, max_new_tokens=3, horizon=1)
        assert module.full_copies
        assert len(module.tokenizer) == module.lm.lm_head.weight.shape[0]
    assert folder.is_dir()
