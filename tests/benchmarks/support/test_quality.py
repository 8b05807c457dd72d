"""Emotional support rows: what is run, on which decisions, and that every method answers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

import datamodules
from benchmarks.support import data as support_data
from benchmarks.support import judged as support_judged
from benchmarks.support import quality as support
from benchmarks.support.table import COLUMNS, ROWS, SETS, table
from benchmarks.trials import FinishedRows
from zoo.support.decisions import decisions

SMALL = {"dialogues": 2, "decisions": 1, "steps": 2, "per_step": 2, "lr": 1e-3}
SMALL |= {"window": 8192, "new_tokens": 2}


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Read the embedded samples."""
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    found = {name: getattr(datamodules, one.module)() for name, one in SETS.items()}
    monkeypatch.setattr(support_data, "read", lambda name, split: found[name].records(split))


def options(**given: object) -> argparse.Namespace:
    chosen = {"rows": list(ROWS), "sets": list(SETS), "seeds": [0, 1], "json": Path("rows.json")}
    return argparse.Namespace(**SMALL | chosen | given)


def test_what_learns_nothing_runs_once_and_gold_needs_strategies(tmp_path: Path) -> None:
    """Rows of one weights are one job, ESConv's come first; what is done is skipped."""
    rows = ["CoT", "gold strategies", "SFT", "SFT, CoT"]
    done = {"row": "SFT", "set": "esconv", "seed": 0, "settings": SMALL}
    esconv, empathetic = SETS
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([done]))
    finished = FinishedRows(file, "row", "set", "seed")
    assert support.jobs(options(rows=rows), finished) == [
        ("talker", 0, [("CoT", esconv)]),
        ("SFT", 0, [("SFT, CoT", esconv), ("SFT", empathetic), ("SFT, CoT", empathetic)]),
        ("none", 0, [("gold strategies", esconv)]),
        ("talker", 0, [("CoT", empathetic)]),
        ("SFT", 1, [(row, name) for name in SETS for row in ("SFT", "SFT, CoT")]),
        ("none", 1, [("gold strategies", esconv)]),
    ]
    with pytest.raises(SystemExit, match="other sizes"):
        support.jobs(options(steps=3), finished)


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("steps", [2, 5])
def test_training_is_as_long_as_its_steps(steps: int) -> None:
    """The last dialogue is cut after a supporter turn; the decisions are those of whole ones."""
    dialogues = support_data.taught(options(steps=steps))
    points = [point for one in dialogues for point in decisions(one)]
    assert len(points) == 2 * steps
    whole = {d.id: d for one in support_data.read("esconv", "train") for d in decisions(one)}
    assert all(whole[point.id].target == point.target for point in points)
    with pytest.raises(SystemExit, match="lack"):
        support_data.taught(options(steps=10_000))


@pytest.mark.usefixtures("samples")
def test_every_row_answers_the_same_decisions(tmp_path: Path) -> None:
    """A row of each method and mode, end to end, on random models of the smallest size."""
    rows = ["RAG", "FiSMiness, agent", "CoCT, emotions alone", "gold strategies", "SFT, FSM"]
    rows += ["FiSMiness, mt, annotated history", "straQ*, imit", "straQ*, distill"]
    rows += ["straQ*, value head", "straQ*, imit, the talker replies"]
    sizes = [text for name, size in SMALL.items() for text in (f"--{name}", str(size))]
    given = ["--rows", *rows, *sizes, "--backbone", "tiny-llama", "--talker", "tiny-llama"]
    file, folder = tmp_path / "rows.json", tmp_path / "made"
    given = ["--json", str(file), "--folder", str(folder), *given]
    support.main(given)
    results = json.loads(file.read_text())
    assert {e["row"] for e in results} == set(rows)
    assert len(results) == 2 * len(rows) - 1  # EmpatheticDialogues has no gold strategies
    for name in SETS:
        asked = {tuple(e["replies"]) for e in results if e["set"] == name}
        assert len(asked) == 1
        assert len(asked.pop()) == 2
    by_row = {e["row"]: e for e in results if e["set"] == "esconv"}
    assert by_row["gold strategies"]["scores"]["accuracy"] == 100
    assert all(e["cost"]["test"] > 0 for e in results)
    assert by_row["SFT, FSM"]["cost"]["train"] > 0
    assert by_row["RAG"]["cost"]["train"] == 0
    planned = [by_row[row]["replies"] for row in ("straQ*, imit", rows[-1])]
    assert [one[0] for one in planned[0].values()] == [one[0] for one in planned[1].values()]
    titles = [title for title, _ in COLUMNS.values()]
    assert all(title in table(results)[2] for title in titles)
    before = file.stat().st_mtime_ns
    support.main(given)  # everything is there
    assert file.stat().st_mtime_ns == before


@pytest.mark.usefixtures("samples")
def test_baselines_that_share_a_conversation_answer_as_alone(tmp_path: Path) -> None:
    """A row behind another one says the same and is charged the same as in a run of its own."""
    sizes = [text for name, size in SMALL.items() for text in (f"--{name}", str(size))]
    entries = {}
    for rows in (["direct", "ToT", "CoCT"], ["ToT"], ["CoCT"]):
        file = tmp_path / f"{len(rows)}{rows[0]}.json"
        support.main(["--json", str(file), "--rows", *rows, *sizes, "--talker", "tiny-llama"])
        entries |= {(len(rows), e["row"], e["set"]): e for e in json.loads(file.read_text())}
    for (count, row, name), entry in entries.items():
        if count == 1:
            behind = entries[3, row, name]
            assert entry["replies"] == behind["replies"]
            assert entry["cost"]["test"] == behind["cost"]["test"]


@pytest.mark.usefixtures("samples")
def test_replies_are_judged_and_seekers_simulated(tmp_path: Path, capsys: Any) -> None:
    """Both verbs print a table, and a second run asks nothing again."""
    points = support_data.tested("esconv", options())
    replies = {d.id: ["Question", "Why?"] for d in points}
    entry = {"row": "direct", "set": "esconv", "settings": SMALL, "replies": replies}
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([entry, {**entry, "set": "empathetic_dialogues"}]))
    judge = ["--judge", "tiny-llama", "--json", str(tmp_path / "judged.json")]
    talk = ["--talker", "tiny-llama", "--json", str(tmp_path / "talks.json")]
    talk += ["--topics", "music", "--max_rounds", "2", "--new_tokens", "3"]
    for _ in range(2):
        support_judged.main(["compare", "--replies", str(rows), *judge])
        support_judged.main(["simulate", *talk])
    (row,) = json.loads((tmp_path / "judged.json").read_text())
    assert (row["row"], row["judged"]) == ("direct", len(points))
    assert row["win"] + row["tie"] + row["lose"] == pytest.approx(100)
    assert len((tmp_path / "judged.jsonl").read_text().splitlines()) == 2 * len(points)
    talks = json.loads((tmp_path / "talks.json").read_text())
    assert [one["row"] for one in talks] == list(support_judged.METHODS)
    assert all(0 < one["rounds"] <= 2 or one["stopped"] for one in talks)
    assert len((tmp_path / "talks.jsonl").read_text().splitlines()) == len(talks)
    assert "| direct |" in capsys.readouterr().out
