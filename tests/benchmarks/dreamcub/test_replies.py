"""Replies on real dialogues: which decisions are asked, in which order, and that every row runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import datamodules
from benchmarks.dreamcub import replies, small_base


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the samples, and a base that has read next to nothing."""
    monkeypatch.setattr(small_base, "STEPS", 2)
    monkeypatch.setattr(small_base, "BATCH", 2)
    monkeypatch.setattr(replies, "WINDOW", {**replies.WINDOW, "max_new_tokens": 4})
    monkeypatch.setattr(replies.trials, "data_path", lambda name: None)
    loader = {"batch_size": 2, "max_train": 4}
    monkeypatch.setattr(replies, "data_of", lambda name, seed: datamodules.ESConv(**loader))


def method(row: str = "full") -> Any:
    window = {**replies.WINDOW, "max_length": 9000, "reserve": 400}  # bytes
    return replies.zoo.DreamCUB(replies.zoo.Backbone("tiny-llama"), full_copies=True, **window)


def test_two_decisions_of_a_dialogue_of_esconv_and_one_of_the_other() -> None:
    module = method()
    for name, (_, of_each) in replies.SETS.items():
        points = replies.asked(module, name, 3)
        by_dialogue = [point.dialogue for point in points]
        assert len(set(by_dialogue)) == 3
        assert len(by_dialogue) == 3 * of_each == len({point.id for point in points})
        assert replies.asked(module, name, 3) == points


def test_what_does_not_fit_is_not_asked() -> None:
    module = method()
    module.encoder().max_length = 450
    assert replies.asked(module, "esconv", 3) == []


def test_answers_stand_in_the_order_of_the_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "AT_ONCE", 2)
    module = method()
    points = replies.asked(module, "esconv", 3)

    class Echo:
        def respond(self, some: Any) -> list[str]:
            return [point.id for point in some]

    assert replies.answers(Echo(), points) == [point.id for point in points]


def test_stages_of_a_row_are_as_long_as_they_are_said_to_be() -> None:
    """A row without stages has the supervised steps alone; DPO learns no world model."""
    lengths = replies.LENGTHS
    assert replies.method_of("tiny-llama", "SFT", 1.0)[1] == lengths["policy"]
    assert replies.method_of("tiny-llama", "full", 0.5)[1] == sum(lengths.values()) // 2
    dpo, steps = replies.method_of("tiny-llama", "DPO", 1.0)
    assert steps == lengths["policy"] + lengths["joint"]
    kinds = {dpo.learning.phase(i).loss for i in range(steps)}
    assert kinds == {"policy", "behaviour"}


def test_all_rows_have_the_same_supervised_steps() -> None:
    """As many, at equal rates, however many other steps follow."""
    found = {}
    for row in replies.ROWS:
        module, total = replies.method_of("tiny-llama", row, 1.0)
        steps = [i for i in range(total) if module.learning.phase(i).loss == "policy"]
        settings = module.optimizer
        found[row] = [(i, settings.lr * settings.factor(i, total)) for i in steps]
    assert len(found["SFT"]) == replies.LENGTHS["policy"]
    assert all(rates == found["SFT"] for rates in found.values())


@pytest.mark.parametrize("row", list(replies.ROWS))
def test_every_row_runs(row: str, tmp_path: Path) -> None:
    entry = replies.run(row, 0, 0.01, 2, tmp_path)
    for name, (_, of_each) in replies.SETS.items():
        assert len(entry["items"][name]) == 2 * of_each
        mean = sum(entry["items"][name].values()) / (2 * of_each)
        assert entry["metrics"][name]["rouge_l"] == pytest.approx(mean, abs=0.01)
    assert row in replies.table([entry])[2]
