"""Rung (a): a config learns its first records by heart, and is scored on them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks import learns
from benchmarks.harness import ROOT


def test_every_method_has_a_row():
    folders = {path.parent.name for path in (ROOT / "zoo" / "methods").glob("*/module.py")}
    trained = {lesson.method for lesson in learns.CONFIGS.values()}
    assert trained == folders - {"sft", "esc_baselines"}


@pytest.mark.parametrize(
    ("score", "goal", "found", "learned"),
    [
        ("accuracy", 0.95, 0.96, True),
        ("accuracy", 0.95, 0.94, False),
        ("td_loss", 0.05, 0.04, True),
        ("td_loss", 0.05, 0.06, False),
    ],
)
def test_a_loss_is_to_be_small_and_other_scores_large(score, goal, found, learned):
    assert learns.reached(learns.Lesson("any", 1, score, goal), found) is learned


def test_a_row(tmp_path, monkeypatch, capsys):
    """Three steps on two records; the second call finds the row and only prints it."""
    short = replace(learns.CONFIGS["hdlm"], records=2, steps=3)
    monkeypatch.setitem(learns.CONFIGS, "hdlm", short)
    path = tmp_path / "rows.json"
    learns.main(["--json", str(path), "--rows", "hdlm"])
    (entry,) = json.loads(path.read_text())
    assert (entry["config"], entry["records"], entry["steps"]) == ("hdlm", 2, 3)
    assert entry["loss"]["last"] < entry["loss"]["first"]
    assert entry["score"] == "joint_accuracy"
    assert entry["learned"] is (entry["scores"]["joint_accuracy"] == 1)
    capsys.readouterr()
    learns.main(["--json", str(path), "--rows", "hdlm"])
    assert capsys.readouterr().out.splitlines()[2].startswith("| hdlm | 2 | 3 | ")
