"""LaMsS in a made-up world: what is told and asked, which questions count, a whole run."""

import argparse
import itertools
import json
from collections import Counter

import pytest

import zoo
from benchmarks.lamss import world as trial
from benchmarks.lamss import world_levels, world_table
from benchmarks.lamss.table import METRICS
from zoo.methods.lamss.doubt_labels import Studied
from zoo.methods.lamss.metrics import auc
from zoo.records import Triple


@pytest.fixture
def small(monkeypatch):
    settings = {"people": 40, "vocabulary": 600, "width": (16, 32), "strange": 5}
    settings["first"] = {"epochs": 1, "lr": 4e-3, "batch": 32}
    monkeypatch.setattr(trial, "SIZES", {**trial.SIZES, **settings})


def test_facts_are_told_in_chat_as_often_as_in_the_text(small):
    world = trial.made(3)
    told = Counter(question.id for question in trial.told_in_chat(world))
    times = {f"{f.who}, {f.relation.name}": f.times for f in world.facts}
    assert told == {name: count for name, count in times.items() if count}
    assert set(times.values()) == {0, 1, 4, 16}
    assert sum(told.values()) == len(list(world.text("train")))


def test_no_fact_is_asked_about_in_training_and_test(small):
    world = trial.made(3)
    learned, asked = trial.known(world, "train", "val"), trial.test(world)
    assert not {q.query for q in learned} & {q.query for q in asked}
    assert {q.kind for q in learned} == {f"seen_{times}" for times in (0, 1, 4, 16)}
    assert {q.kind for q in asked} - {q.kind for q in learned} == {"held_out", "unreal"}
    assert len(learned) == 24 * 4
    assert len(asked) == 16 * 4 + 5


def test_the_main_metrics_are_of_kinds_that_training_has():
    rows = [("seen_0", False, 0.9), ("seen_8", True, 0.1), ("seen_8", True, 0.3)]
    rows += [("unreal", False, 0.0), ("held_out", True, 0.95)]
    graded = {
        f"q{i}": {"kind": kind, "right": right, "skepticism": {"response": doubt}}
        for i, (kind, right, doubt) in enumerate(rows)
    }
    entry = trial.scored(graded, "response")
    assert entry["metrics"]["AUC"] == 1.0
    assert entry["metrics"]["of all"] == pytest.approx(2 / 3, abs=1e-4)
    assert entry["with_strange"]["AUC"] == pytest.approx(
        auc([doubt for _, _, doubt in rows], [right for _, right, _ in rows]), abs=1e-4
    )
    assert entry["by_kind"]["seen_8"] == [1.0, 0.2]
    assert (entry["right"], entry["doubts"]) == ("01101", [0.9, 0.1, 0.3, 0.0, 0.95])


def test_judged_answers_are_those_of_the_model_of_before(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    asked = [Triple(f"Who {i}?", "", "a", kind="seen_1", id=f"q{i}") for i in range(3)]
    data = trial.Told(asked, [*asked, Triple("Who?", "", "a", kind="unreal", id="stranger")])
    module = zoo.LaMsS({"name": "tiny-llama"}, max_length=256, shared_positions=True)
    module.configure_model()
    encoder = module.encoder()
    said = {"q0": 0, "q1": 4, "q2": 4, "stranger": 0}

    def study(records, split):  # with right answers, of which one is shown in many copies
        for record in records:
            level = said[record.id]
            copies = 1 if split == "val" or level else 5
            known = Studied([[5, 6]], [[0, 0]], [7, 6], [level, 0], level, copies)
            encoder.studied[record] = known

    monkeypatch.setattr(encoder, "study", study)
    found = world_levels.level_figures(module, data)
    assert (found["answers"], found["answers_right"]) == (3, 1)
    assert found["AUC of the levels shown"] == 1.0  # the stranger is left out
    assert found["training level_loss"] == found["level_loss"] > 0  # copies count once
    assert found["training AUC, shown"] == found["AUC, shown"]


def test_the_comparison_of_all_seeds_comes_before_any_ablation():
    options = argparse.Namespace(rows=list(trial.RUNS), seeds=[0, 1])
    order = trial.jobs(options)
    assert sorted(order) == sorted((run, seed) for run in trial.RUNS for seed in (0, 1))
    first = order[: 2 * len(trial.MAIN)]
    assert {run for run, _ in first} == set(trial.MAIN)
    assert [seed for _, seed in first] == sorted(seed for _, seed in first)


def test_table_has_means_over_seeds_and_levels_of_runs_that_have_them():
    rows = {"LaMsS": 0.6, "LaMsS, mean of both": 0.7, "SFT, token entropy": 0.8}
    entries = []
    for seed, (row, value) in itertools.product((1, 2), rows.items()):
        metrics = dict.fromkeys(METRICS, value + 0.1 * seed)
        by_kind = {"seen_0": [0.25 * seed, 0.1 * seed]}
        entry = {"row": row, "run": row.partition(",")[0], "seed": seed, "metrics": metrics}
        if entry["run"] == "LaMsS":
            entry |= dict.fromkeys(world_table.LEVELS, 0.5) | {"level_targets": 100 * seed}
        entries.append({**entry, "by_kind": by_kind})
    lines = world_table.table(entries)
    assert lines[2].startswith("| LaMsS | 2 | 75.0 +-63.5 |")  # t(1) = 12.7 times 7.07 / sqrt 2
    assert "| SFT, token entropy | 38 / 0.15 |" in lines
    assert lines[-1] == "| LaMsS | 150 | 0.5 | 0.5 | 0.5 | 0.5 | 0.5 | 0.5 |"
    assert world_table.table([]) == []


def test_runs_end_to_end_and_goes_on(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "out.json"
    command = ["--json", str(path), "--folder", str(tmp_path / "models"), "--seeds", "7"]
    trial.main([*command, "--rows", "LaMsS, 55", "SFT, 55"])
    entries = json.loads(path.read_text())
    rows = [entry["row"] for entry in entries]
    assert rows[:2] == ["LaMsS, 55", "LaMsS, 55, mean of the tokens"]
    assert rows[3:] == ["SFT, 55, token entropy", "SFT, 55, 1 - p(A given Q)"]
    graded, plain = entries[0], entries[3]
    assert 40 <= graded["level_targets"] <= 70
    assert graded["steps"] == 2 * plain["steps"] == 6  # half of LaMsS' examples are second passes
    assert len(graded["doubts"]) == len(graded["right"]) == len(plain["doubts"])
    assert f"| SFT, 55, token entropy | 1 | {100 * plain['metrics']['AUC']:.1f} " in (
        capsys.readouterr().out
    )
    before = path.read_text()
    trial.main([*command, "--rows", "LaMsS, 55", "SFT, 55"])
    assert path.read_text() == before
