"""Finished rows of a trial: resuming, whole files, tables and intervals."""

import json
import math

import pytest

from benchmarks import trials
from benchmarks.trials import FinishedRows


def test_rows_that_are_there_are_not_run_again(tmp_path):
    file = tmp_path / "new" / "rows.json"
    jobs = [("a", 0), ("b", 0), ("a", 1)]
    ran = []

    def run(row, seed):
        if (row, seed) == ("a", 1) and len(ran) < 3:
            ran.append("killed")
            raise KeyboardInterrupt
        ran.append((row, seed))
        return {"row": row, "seed": seed, "words": "caf\u00e9"}

    with pytest.raises(KeyboardInterrupt):
        FinishedRows(file, "row", "seed").run(jobs, run)
    kept = json.loads(file.read_text("utf-8"))
    assert [(entry["row"], entry["seed"]) for entry in kept] == jobs[:2]
    assert {"torch", "date"} <= set(kept[0])
    again = FinishedRows(file, "row", "seed")
    assert again.missing(jobs) == jobs[2:]
    again.run(jobs, run)
    assert ran == [*jobs[:2], "killed", jobs[2]]
    assert FinishedRows(file, "row", "seed").entries == again.entries
    assert json.loads(file.read_text("utf-8"))[:2] == kept


def test_the_file_is_whole_or_as_before(tmp_path):
    """An entry that is no JSON leaves the rows of before, and nothing beside the file."""
    file = tmp_path / "rows.json"
    finished = FinishedRows(file, "row")
    finished.add({"row": "a"})
    before = file.read_text()
    with pytest.raises(TypeError):
        finished.add({"row": "b", "score": object()})
    assert file.read_text() == before
    assert list(tmp_path.iterdir()) == [file]


def test_options_of_every_trial(monkeypatch):
    parser = trials.make_parser("One line.\n\nMore.", rows=["a", "b"], seeds=[0, 1])
    options = parser.parse_args(["--json", "x.json"])
    assert (options.rows, options.seeds, options.table) == (["a", "b"], [0, 1], False)
    assert parser.description == "One line."
    with pytest.raises(SystemExit):
        parser.parse_args(["--json", "x.json", "--rows", "c"])
    monkeypatch.delenv("ZOO_DATA", raising=False)
    with pytest.raises(SystemExit, match="set ZOO_DATA to the folder that holds esconv/"):
        trials.data_path("esconv")


def test_tables_and_intervals():
    assert trials.markdown(["row", "a"], [["x", "1"]]) == ["| row | a |", "|---|---|", "| x | 1 |"]
    assert trials.percent_of(0.5, 100) == "50.0 (40.4-59.6)"
    assert trials.wilson(0.0, 96)[0] == 0.0
    assert trials.seed_margin([1.0, 3.0]) == pytest.approx(12.7062, abs=1e-4)
    assert math.isnan(trials.seed_margin([1.0]))
    entries = [{"row": "a", "metrics": {"x": 1.0}}, {"row": "a", "metrics": {}}, {"row": "b"}]
    assert trials.mean_metric(trials.of_row(entries, row="a"), "x") == 0.5
