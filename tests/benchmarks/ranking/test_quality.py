"""Rows of the learned rankers: what is to be run, and on which documents."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.ranking import quality as rationale
from benchmarks.ranking.baselines import SHOWN
from benchmarks.trials import FinishedRows
from datamodules import ESConvStrategies


def options(**given: object) -> argparse.Namespace:
    rows = ["random", "frequency", "LaHoRe, zero-shot", "LaHoRe, SFT", "Rabtriever"]
    return argparse.Namespace(
        **{"tasks": ["esconv", "msmarco"], "rows": rows, "seeds": [0, 1]} | given
    )


def test_what_learns_runs_on_esconv_with_every_seed(tmp_path: Path) -> None:
    """Other rows run once; nothing is learned on the other tasks; what is done is skipped."""
    done = {"task": "esconv", "row": "LaHoRe, SFT", "seed": 0}
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([done]))
    finished = FinishedRows(file, "task", "row", "seed")
    assert finished.missing(rationale.jobs(options())) == [
        ("esconv", "random", 0),
        ("esconv", "frequency", 0),
        ("esconv", "LaHoRe, zero-shot", 0),
        ("esconv", "Rabtriever", 0),
        ("msmarco", "random", 0),
        ("msmarco", "LaHoRe, zero-shot", 0),
        ("esconv", "LaHoRe, SFT", 1),
        ("esconv", "Rabtriever", 1),
    ]


def test_the_best_documents_of_a_ranking_are_kept() -> None:
    record = ESConvStrategies().records("test")[0]
    scores = [float(i % 5) for i in range(8)]
    kept = rationale.shortened(record, scores, 3).pool
    assert len(kept) == 3
    assert {record.pool[4], record.pool[3]} <= set(kept)


def test_rows_run_on_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teacher, student and preference, end to end, on a random model of the smallest size."""
    found = ESConvStrategies().records("train")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    monkeypatch.setattr(rationale, "read", lambda task, split, options: found[:4])
    monkeypatch.setattr(rationale, "WINDOW", {"document_tokens": 32, "max_length": 1024})
    rows = ["random", "LaHoRe, zero-shot", "LaHoRe, SFT", "LaHoRe, DPO", "Rabtriever"]
    rows.append("Rabtriever, no KL")
    given = ["--tasks", "esconv", "--backbone", "tiny-llama", "--rows", *rows]
    given += ["--folder", str(tmp_path / "teachers"), "--train", "4", "--distil", "2"]
    file = tmp_path / "rows.json"
    rationale.main(["--json", str(file), *given])
    results = json.loads(file.read_text())
    assert [entry["row"] for entry in results] == rows
    assert [entry["steps"] for entry in results] == [0, 0, 1, 1, 1, 1]
    assert [entry["trained_on"] for entry in results] == [0, 0, 4, 4, 2, 2]
    student, teacher = results[4], results[2]
    assert 0 < student["trained_parameters"] < teacher["trained_parameters"]
    assert all(set(entry["interval_95"]) == set(SHOWN) for entry in results)
    before = file.stat().st_mtime_ns
    rationale.main(["--json", str(file), *given])  # everything is there
    assert file.stat().st_mtime_ns == before
