"""Beliefs on data: which states are asked, what the rows say, and that every row runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import datamodules
from benchmarks.dreamcub import beliefs, small_base


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the samples, and a window for a tokenizer whose tokens are bytes."""
    monkeypatch.setattr(beliefs, "WINDOW", {**beliefs.WINDOW, "max_length": 2000, "reserve": 400})
    loader = {"batch_size": 2, "max_train": 4}
    kinds = {"daily_dialog": datamodules.DailyDialog, "esconv": datamodules.ESConv}
    monkeypatch.setattr(beliefs, "data_of", lambda name, seed: kinds[name](seed=seed, **loader))


def method(dataset: str, row: str = "world model") -> Any:
    module = beliefs.method_of(dataset, row, "tiny-llama")
    module.configure_model()
    return module


@pytest.mark.parametrize("dataset", list(beliefs.DATA))
def test_one_labelled_state_of_each_dialogue(dataset: str) -> None:
    module, data = method(dataset), beliefs.data_of(dataset, 0)
    records = data.records("train")
    states = beliefs.states_of(module, records, None)
    dialogues = [state.decision.dialogue for state in states]
    assert len(set(dialogues)) == len(dialogues) == len(records)
    assert all(len(s.belief) == len(module.factors) and all(s.belief) for s in states)
    assert beliefs.states_of(module, records, 2) == states[:2]


def test_dialogues_that_do_not_fit_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beliefs, "WINDOW", {**beliefs.WINDOW, "max_length": 460})
    records = beliefs.data_of("daily_dialog", 0).records("train")
    assert beliefs.states_of(method("daily_dialog"), records, None) == []


def test_scores_and_the_most_frequent_label() -> None:
    module = method("daily_dialog")
    states = beliefs.states_of(module, beliefs.data_of("daily_dialog", 0).records("train"), None)
    gold = [state.belief or () for state in states]
    most = beliefs.most_frequent(states)
    for i, label in enumerate(most):
        column = [belief[i] for belief in gold]
        assert all(column.count(label) >= column.count(other) for other in column)
    assert set(beliefs.scores(module, states, gold).values()) == {1.0}
    found = beliefs.scores(module, states, [most] * len(states))
    share = sum(belief[2] == most[2] for belief in gold) / len(gold)
    assert found["intention_belief_accuracy"] == pytest.approx(share)


@pytest.mark.parametrize("row", list(beliefs.ROWS))
def test_every_row_runs(row: str, tmp_path: Path) -> None:
    entry = beliefs.run("daily_dialog", row, 0, "tiny-llama", 1, 3, tmp_path)
    assert entry["tests"] == 3
    assert {len(hits) for hits in entry["items"].values()} == {3}
    for name, hits in entry["items"].items():
        assert entry["metrics"][f"{name}_belief_accuracy"] == pytest.approx(sum(hits) / 3)
    assert row in beliefs.table([entry])[2]


def test_a_small_base_has_read_the_dialogues_and_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_base, "STEPS", 2)
    monkeypatch.setattr(small_base, "BATCH", 4)
    entry = beliefs.run("daily_dialog", "world model", 0, beliefs.SMALL, 1, 2, tmp_path)
    assert entry["tests"] == 2
    (base,) = tmp_path.iterdir()
    weights = (base / "model.safetensors").stat().st_mtime_ns
    beliefs.run("daily_dialog", "SFT classifier", 1, beliefs.SMALL, 1, 2, tmp_path)
    assert (base / "model.safetensors").stat().st_mtime_ns == weights
    module = beliefs.method_of("daily_dialog", "world model", str(base), copies=True)
    assert len(module.encoder().letter_ids) == len(set(module.encoder().letter_ids))
