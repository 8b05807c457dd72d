"""The trial on a small base model: its questions, rules, search, and one whole tiny run."""

from __future__ import annotations

import collections
import itertools
import json
import random
from statistics import mean
from types import SimpleNamespace

import pytest
import torch.nn.functional as F

from benchmarks.methanol import base_model, small_worlds


@pytest.mark.parametrize("moves", [1, 2])
def test_questions_of_the_test_are_not_trained_on(moves):
    asked = small_worlds.stories("test", 400, moves)
    assert asked == small_worlds.stories("test", 400, moves)
    kinds = collections.Counter(each.kind for each in asked)
    assert set(kinds.values()) == {100 if moves == 1 else 80}
    trained = {each.query for each in small_worlds.stories("train 0", 4000, moves)}
    assert len(trained & {each.query for each in asked}) <= 8  # of chance, 2 %


def test_texts_of_the_base_model_say_nothing_of_beliefs():
    rng = random.Random(0)
    told = " ".join(part for _ in range(200) for part in base_model.report(rng))
    assert " was away" in told
    assert "moved the" in told
    assert not any(word in told for word in ("think", "saw", "missed", "?"))


def test_base_model_learns_the_sentences_and_not_the_story():
    words = base_model.tokenizer()
    story, told = base_model.report(random.Random(1))
    lm = SimpleNamespace(
        model=lambda ids: SimpleNamespace(last_hidden_state=F.one_hot(ids, 700).float()),
        lm_head=lambda states: 100 * states.roll(1, -1),  # says the id after the one it has read
    )
    ids = words(story)["input_ids"][-1:] + words(told)["input_ids"]
    wrong = sum(b != a + 1 for a, b in itertools.pairwise(ids))
    loss = base_model.report_loss(lm, words, [(story, told)])
    assert loss.item() == pytest.approx(100 * wrong / (len(ids) - 1), rel=1e-3)


def test_every_word_is_one_token():
    words = base_model.tokenizer()
    for place in base_model.WORLD.places:
        assert len(words.tokenize(f" {place}")) == 1


@pytest.mark.parametrize("moves", [1, 2])
def test_present_place_is_right_for_every_true_belief_and_no_false_one(moves):
    asked = small_worlds.stories("test", 500, moves)
    found = small_worlds.scores(asked, [small_worlds.present_place(each) for each in asked])
    metrics, hits = found["metrics"], found["hits"]
    assert metrics["reality"] == metrics["true_belief"] == 1
    assert metrics["memory"] > 0.85  # another object's place can be told first
    assert metrics["false_belief"] == 0
    assert len(hits["all"]) == 500
    assert len(hits["belief"]) == (250 if moves == 1 else 300)
    assert metrics["belief"] == pytest.approx(mean(hits["belief"]), abs=1e-4)
    assert ("second_order" in metrics) == (moves == 2)


def test_rates_are_chosen_on_validation_answers():
    def entry(lr: float, accuracy: float) -> dict:
        return {
            "part": "search",
            "row": small_worlds.RAW,
            "lr": lr,
            "metrics": {"accuracy": accuracy},
        }

    entries = [entry(4e-3, 0.9), entry(2e-3, 0.9), entry(1e-3, 0.5)]
    assert small_worlds.best_rate(entries, small_worlds.RAW) == 2e-3
    rows = [small_worlds.RULE, "MeTHanol, raw head, k = 1"]
    assert small_worlds.search_jobs(rows) == [
        ("search", small_worlds.RAW, lr, small_worlds.SEARCH_SEED) for lr in small_worlds.RATES
    ]
    options = SimpleNamespace(rows=rows, seeds=[0, 1], lr=None)
    jobs = small_worlds.test_jobs(options, entries)
    assert [(row, lr, seed) for _, row, lr, seed in jobs] == [
        (rows[0], 0.0, 0),
        (rows[1], 2e-3, 0),
        (rows[0], 0.0, 1),
        (rows[1], 2e-3, 1),
    ]
    options.lr = 3e-3  # given: no search
    assert {lr for _, _, lr, _ in small_worlds.test_jobs(options, [])} == {0.0, 3e-3}


def test_a_run_is_kept_and_resumed(tmp_path, monkeypatch, capsys):
    """Base model, search, one seed of three rows, one step each; a second call trains nothing."""
    monkeypatch.setattr(base_model, "SIZE", (16, 32))
    monkeypatch.setattr(base_model, "BATCH", 5)
    monkeypatch.setattr(small_worlds, "BATCH", 5)
    monkeypatch.setattr(small_worlds, "RATES", (1e-3,))
    base_model.train_base(tmp_path / "base", rounds=(1,))
    path = tmp_path / "rows.json"
    rows = [small_worlds.RULE, "SFT(Q -> A)", small_worlds.NORMED]
    asked = ["--json", str(path), "--base", str(tmp_path / "base"), "--seeds", "0", "--rows", *rows]
    small_worlds.main([*asked, "--steps", "1", "--questions", "10"])
    entries = json.loads(path.read_text())
    assert [(e["part"], e["row"]) for e in entries] == [
        ("search", rows[1]),
        ("search", rows[2]),
        *(("test", row) for row in rows),
    ]
    assert all(len(e["hits"]["belief"]) == 6 for e in entries if e["part"] == "test")
    assert "thoughts" in entries[-1]["metrics"]
    assert "thoughts" not in entries[-2]["metrics"]
    assert "| rule: present place | 0 | 1 |" in capsys.readouterr().out
    monkeypatch.setattr(small_worlds, "run_row", lambda *_, **__: pytest.fail("it was there"))
    small_worlds.main([*asked, "--steps", "1", "--questions", "10"])
