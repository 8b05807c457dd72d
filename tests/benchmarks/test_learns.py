"""Rung (a): a config learns its first records by heart, and is scored on them."""

from __future__ import annotations

import json

from benchmarks import learns
from benchmarks.harness import ROOT


def test_every_method_has_a_row():
    folders = {path.parent.name for path in (ROOT / "zoo" / "methods").glob("*/module.py")}
    assert {method for method, *_ in learns.CONFIGS.values()} == folders - {"sft", "esc_baselines"}


def test_a_row(tmp_path, monkeypatch, capsys):
    """Three steps on two records; the second call finds the row and only prints it."""
    monkeypatch.setitem(learns.CONFIGS, "hdlm", ("hdlm", 2, 3))
    path = tmp_path / "rows.json"
    learns.main(["--json", str(path), "--rows", "hdlm"])
    (entry,) = json.loads(path.read_text())
    assert (entry["config"], entry["records"], entry["steps"]) == ("hdlm", 2, 3)
    assert entry["loss"]["last"] < entry["loss"]["first"]
    assert 0 <= entry["scores"]["joint_accuracy"] <= 1
    capsys.readouterr()
    learns.main(["--json", str(path), "--rows", "hdlm"])
    assert capsys.readouterr().out.splitlines()[2].startswith("| hdlm | 2 | 3 | ")
