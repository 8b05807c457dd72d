import json
from functools import partial

import pytest

import datamodules
from benchmarks.megan import from_scratch
from benchmarks.megan.composed import FORMS, FRAMES, WHATS, Query, Tasks, all_tasks, hold_out
from benchmarks.megan.settings import placed
from benchmarks.reproduce.verdict import item_scores

QUERIES = [Query(f"query {i}", f"domain {i}", f"intent {i}") for i in range(10)]
DOMAINS = tuple(query.domain for query in QUERIES)


@pytest.mark.parametrize("seed", range(4))
def test_every_part_of_a_held_out_task_is_trained(seed):
    held_out = hold_out(2, seed)
    assert len(held_out) == 2 * len(WHATS)
    seen = [task for task in all_tasks() if task not in held_out]
    assert [sum(what == one for what, _ in seen) for one in WHATS] == [2] * len(WHATS)
    assert [sum(form == one for _, form in seen) for one in FORMS] == [2] * len(FORMS)
    assert held_out != hold_out(2, seed + 4)


def test_training_has_neither_held_out_tasks_nor_unseen_frames():
    tasks = Tasks(DOMAINS, hold_out(2, 0))
    trained = tasks.training(QUERIES, 500, 0)
    assert len(trained) == 500
    asked = tasks.testing(QUERIES, 0)
    by_group = {
        group: [record for record in asked if record.group == group]
        for group in ("seen", "unseen", "unseen_task")
    }
    assert {len(records) for records in by_group.values()} == {len(QUERIES)}
    names = {record.task for record in trained}
    assert {record.task for record in by_group["seen"] + by_group["unseen"]} <= names
    assert not {record.task for record in by_group["unseen_task"]} & names
    conditions = {record.condition for record in trained}
    assert not {record.condition for record in by_group["unseen"]} & conditions


def test_answers_put_a_name_in_a_form():
    tasks = Tasks(DOMAINS, frozenset())
    answers = {task: tasks.answer(QUERIES[3], task) for task in all_tasks()}
    assert answers["intent", "twice"] == "intent 3 and intent 3"
    assert answers["colour", "perhaps"] == "perhaps yellow"
    assert len(set(answers.values())) == 16
    record = tasks.record(QUERIES[3], ("city", "politely"), FRAMES[0])
    assert record.condition == "Name the city politely."
    assert record.response == "cairo please"


def test_a_condition_stands_where_a_row_has_it():
    (record,) = Tasks(DOMAINS, frozenset()).training(QUERIES, 1, 0)
    places = {
        place: (one.system == record.condition, one.condition == record.condition)
        for place in ("none", "gates", "prompt", "both")
        for one in placed([record], place)
    }
    assert places == {
        "none": (False, False),
        "gates": (False, True),
        "prompt": (True, False),
        "both": (True, True),
    }


def test_rows_are_run_once_and_keep_their_hits(tmp_path, monkeypatch, capsys):
    sample = partial(datamodules.TaskViews, None)
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(datamodules, "TaskViews", lambda path, **options: sample(**options))
    monkeypatch.setattr(from_scratch, "SMALL", (16, 32))
    for steps in ("BASE", "MORE", "COMPOSED"):
        monkeypatch.setattr(from_scratch, steps, 1)
    path = tmp_path / "rows.json"
    rows = [
        "MeGan (hypernetwork) on full SFT",
        "LoRA of equal size, condition in the prompt, on full SFT",
        "MeGan, all weights, condition in both",
    ]
    monkeypatch.setitem(from_scratch.ROWS["control"][rows[0]], "steps", 1)
    asked = ["--json", str(path), "--seeds", "0", "--folder", str(tmp_path / "weights")]
    from_scratch.main([*asked, "--texts", "2", "--rows", *rows])
    entries = json.loads(path.read_text())
    assert [(entry["setting"], entry["row"]) for entry in entries] == [
        ("control", rows[0]),
        ("control", rows[1]),
        ("composed", rows[2]),
    ]
    hyper, adapters, everything = (entry["trainable"] for entry in entries[:3])
    assert max(hyper, adapters) < everything
    assert [len(item_scores(entry, "items.unseen")) for entry in entries] == [2] * 3
    assert [len(entry["items"].get("unseen_task", [])) for entry in entries] == [0, 0, 2]
    told = [name.endswith("other gates") for entry in entries for name in entry["metrics"]]
    assert told == [False] * 10 + [True] * 4
    assert "| MeGan, all weights, condition in both |" in capsys.readouterr().out
    monkeypatch.setattr(from_scratch, "run_row", lambda *_, **__: pytest.fail("it was there"))
    from_scratch.main([*asked, "--rows", *rows])
