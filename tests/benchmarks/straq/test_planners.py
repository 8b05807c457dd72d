"""Scores by dialogue, the choice of a learning rate, and rows that are run once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import datamodules
from benchmarks.straq import planner_scores, planners
from benchmarks.support import data
from zoo.records import Dialogue
from zoo.support.decisions import decisions
from zoo.support.strategy_metrics import accuracy, bias

GOLD = {"a": "AABH", "b": "BC", "c": "ABAB"}
FOUND = {"a": "AABB", "b": "AC", "c": "BAHB"}


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Yield a path for rows of the packaged dialogues, the same in every split."""
    records = datamodules.ESConv().records("test")
    monkeypatch.setattr(data, "read", lambda name, split: records)
    monkeypatch.setattr(planners, "SIZE", (32, 64))
    monkeypatch.setattr(planners, "VOCABULARY", 300)
    monkeypatch.setattr(planners, "WINDOW", 512)
    monkeypatch.setattr(planners, "RATES", (1e-9, 1e-2))
    monkeypatch.setattr(planners, "SEARCH_STEPS", 40)
    forget()
    yield tmp_path / "rows.json"
    forget()


def forget() -> None:
    """Let nothing of one test's dialogues be read by another."""
    for kept in (planners.dialogues, planners.points, planners.tokenizer):
        kept.cache_clear()


def test_items_are_paired_by_dialogue_and_mean_the_score() -> None:
    scores = planner_scores.of_plans(FOUND, GOLD)
    assert scores["metrics"]["accuracy"] == 50.0  # 3 of 4, 1 of 2, 1 of 4
    assert scores["metrics"]["named"] == 4
    items = scores["items"]["accuracy"]
    # 300 x 5/10 without each: 2/6, 4/8, 4/6
    assert items == pytest.approx({"a": 150 - 200 / 3, "b": 50.0, "c": 150 - 400 / 3}, abs=0.01)


def test_pseudo_values_of_a_mean_are_the_values() -> None:
    """Where all dialogues have one size; the bias is no mean."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(8, np.full(16, 1 / 16), size=20).reshape(20, 4, 4).astype(float)
    assert planner_scores.pseudo_values(counts, accuracy) == pytest.approx(accuracy(counts))
    values = planner_scores.pseudo_values(counts, bias)
    assert values.mean() == pytest.approx(float(bias(counts.sum(0))), abs=0.3)
    assert values.std() > 0


def test_letters_stand_by_dialogue() -> None:
    first, second = datamodules.ESConv().records("test")[:2]
    asked = [*decisions(first), *decisions(second)]
    found = planner_scores.by_dialogue(asked, ["Question"] * (len(asked) - 1) + ["Others"])
    assert list(found) == [first.id, second.id]
    assert found[first.id] == "A" * len(decisions(first))
    assert found[second.id].strip("A") == "H"


def test_the_best_rate_on_validation_is_taken() -> None:
    def tried(row: str, lr: float, found: float, split: str = "val") -> dict[str, object]:
        return {"split": split, "row": row, "lr": lr, "metrics": {"accuracy": found}}

    entries = [tried("a", 1, 30.0), tried("a", 2, 31.0), tried("b", 3, 40.0)]
    entries.append(tried("a", 4, 50.0, "test"))
    assert planners.best_rate(entries, "a") == 2
    assert planners.best_rate(entries, "a rule") == 0


def test_a_long_turn_is_cut_and_the_situation_left_out() -> None:
    record: Dialogue = datamodules.ESConv().records("test")[0]
    cut = planners.shortened(record)
    assert record.situation
    assert cut.situation == ""
    assert [t.text for t in cut.turns] == [t.text[: planners.CHARACTERS] for t in record.turns]
    assert [t.strategy for t in cut.turns] == [t.strategy for t in record.turns]


@pytest.mark.usefixtures("sample")
def test_what_all_prompts_share_is_one_token_each(tmp_path: Path) -> None:
    planners.write_planner(tmp_path, seed=0)
    question = planners.question(planners.SUPPORT)
    ids = planners.tokenizer()(question + "Supporter (Question): Why?")["input_ids"]
    assert planners.tokenizer().convert_ids_to_tokens(ids[:2]) == [
        question,
        "Supporter (Question):",
    ]


def test_seeds_have_weights_of_their_own(sample: Path) -> None:
    one, same, other = (planners.trained(1e-9, seed, 1, {}) for seed in (0, 0, 1))
    weights = [m.lm.model.layers[0].mlp.up_proj.weight for m in (one, same, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].allclose(weights[2], atol=1e-2)
    assert 0.08 < weights[0].std().item() < 0.12


def test_rows_are_run_once(
    sample: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both rates on validation, then the better one; a second call runs nothing."""
    rows = ("straQ*, autoregressive", "last strategy x turn depth", planners.DRAWN)
    asked = ["--json", str(sample), "--steps", "50", "--seeds", "0", "1", "--rows", *rows]
    planners.main(asked)
    entries = json.loads(sample.read_text())
    jobs = [(e["split"], e["row"], e["seed"]) for e in entries]
    assert jobs == [("val", rows[0], 100)] * 2 + [("test", r, s) for s in (0, 1) for r in rows]
    trained = [e for e in entries if e["split"] == "test" and e["row"] == rows[0]]
    assert {e["lr"] for e in trained} == {1e-2}
    assert min(e["train_accuracy"] for e in trained) > 40  # it is tested on what it learned
    assert all(
        e["train_accuracy"] == pytest.approx(e["metrics"]["accuracy"], abs=0.01) for e in trained
    )
    drawn = [e["found"] for e in entries if e["row"] == planners.DRAWN]
    assert drawn[0] != drawn[1]
    assert "| straQ*, autoregressive | 2 |" in capsys.readouterr().out
    monkeypatch.setattr(planners, "run_row", lambda *_, **__: pytest.fail("it was there"))
    planners.main(asked)
