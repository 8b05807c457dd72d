"""The benchmark of selective answering: intervals, tables, and runs that go on where they were."""

import json
import math
import random
from functools import partial

import pytest

from benchmarks.lamss import quality as lamss
from benchmarks.lamss import table as lamss_table
from zoo.methods.lamss.metrics import accuracy_at_rate, auc


def entry(run, scores, seed=0, size=60, skill=0.8):
    rng = random.Random(seed)
    questions = {}
    for i in range(size):
        right = rng.random() < 0.5
        doubt = 0.5 + (0.4 if right is (rng.random() > skill) else -0.4) * rng.random()
        kind = ("seen_0", "seen_16")[i % 2]
        doubts = dict.fromkeys(scores, doubt)
        questions[f"q{i}"] = {"kind": kind, "right": right, "skepticism": doubts}
    return {"data": "facts", "run": run, "seed": seed, "questions": questions}


def test_every_row_has_a_run_and_a_run_has_its_reading():
    assert {run for run, _ in lamss_table.ROWS.values()} == set(lamss.RUNS)
    assert {reading for reading, _, _ in lamss.RUNS.values()} == set(lamss.READINGS)
    assert {score for run, score in lamss_table.ROWS.values() if run == "SFT"} == set(lamss.CHEAP)
    assert len(lamss_table.ROWS) == 13


def test_intervals_hold_the_value_and_shrink_with_more_questions():
    few, many = (entry("sure", ["sure"], size=size) for size in (40, 640))
    spreads = []
    for one in (few, many):
        middle, low, high = lamss_table.interval([one], "sure", auc, draws=200)
        assert low < middle < high
        spreads.append(high - low)
    assert 2.5 < spreads[0] / spreads[1] < 6  # about sqrt(16)


def test_interval_of_accuracy_is_that_of_a_binomial():
    one = entry("sure", ["sure"], size=400)
    _, low, high = lamss_table.interval(
        [one], "sure", lambda u, r: accuracy_at_rate(u, r, 1.0), 400
    )
    share = sum(q["right"] for q in one["questions"].values()) / 400
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(share * (1 - share) / 400), rel=0.15)


def test_several_seeds_are_averaged():
    entries = [entry("sure", ["sure"], seed=seed) for seed in (0, 1)]
    alone = [lamss_table.interval([one], "sure", auc, draws=20)[0] for one in entries]
    assert lamss_table.interval(entries, "sure", auc, draws=20)[0] == pytest.approx(sum(alone) / 2)


def test_table_has_a_line_per_row_that_was_run():
    graded = entry("LaMsS", ["response", "tokens", "both"])
    lines = lamss_table.table([entry("SFT", lamss.CHEAP), graded], draws=20)
    rows = [line.split(" | ")[0].lstrip("| ") for line in lines if line.startswith("| ")]
    expected = ["LaMsS", "LaMsS, mean of the tokens", "LaMsS, mean of both"]
    expected += ["SFT, 1 - p(A given Q)", "SFT, token entropy", "SFT, P(True)", "SFT, verbalised"]
    assert rows == ["row", *expected, "row, accuracy / mean U", *expected]
    widths = {line.count("|") for line in lines[:9]}
    assert widths == {len(lamss_table.METRICS) + 3}
    assert "seen_0 | seen_16" in lines[10]


def test_a_run_goes_on_where_it_was(tmp_path, capsys, monkeypatch):
    """Rows that are there are not run again; a model that has read the text is read once."""
    few = {"num_entities": 40, "max_train": 4, "max_test": 6}
    monkeypatch.setitem(lamss.SETTINGS["facts"], "data", few)
    monkeypatch.setattr(lamss, "table", partial(lamss_table.table, draws=20))
    path = tmp_path / "out.json"
    common = ["facts", "--json", str(path), "--steps", "1", "--backbone", "tiny-llama"]
    common += ["--precision", "32-true", "--folder", str(tmp_path / "models"), "--rows"]
    path.write_text(json.dumps([entry("SFT", lamss.CHEAP)]))
    lamss.main([*common, "SFT", "sure"])
    results = json.loads(path.read_text())
    assert [one["run"] for one in results] == ["SFT", "sure"]
    assert len(results[1]["questions"]) == 6
    assert results[1]["steps"] == 1
    assert len(list((tmp_path / "models").iterdir())) == 1
    assert "| SFT, sure or unsure | 1 |" in capsys.readouterr().out
    before = path.read_text()
    lamss.main([*common, "SFT", "sure"])
    assert path.read_text() == before


def test_without_the_data_it_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("ZOO_DATA", raising=False)
    with pytest.raises(SystemExit, match="set ZOO_DATA"):
        lamss.main(["commonsense_qa", "--json", str(tmp_path / "x.json")])
