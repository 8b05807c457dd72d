"""The trial of MeTHanol and its controls: a whole row on tiny weights, resumed, and its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.methanol.quality import main


@pytest.mark.slow
def test_a_row_on_generated_stories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--json", str(tmp_path / "rows.json"), "--moves", "2", "--backbone", "tiny-llama"]
    given += ["--rows", "SFT(Q -> A)", "--seeds", "0", "--steps", "1", "--questions", "5"]
    main([*given, "--jobs", "1"])
    (entry,) = json.loads((tmp_path / "rows.json").read_text())
    assert (entry["steps"], entry["moves"], entry["lr"]) == (1, 2, 1.5e-4)
    assert {"test/accuracy", "test/accuracy_second_order"} <= entry["metrics"].keys()
    first = capsys.readouterr().out
    main([*given, "--table"])
    assert capsys.readouterr().out.splitlines() == first.splitlines()[-3:]
    assert "| second_order |" in first
