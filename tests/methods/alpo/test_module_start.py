"""`python -m zoo.methods.alpo` runs its commands; a file that grows knows what it has."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from zoo.methods.alpo.growing_file import GrowingFile


def test_the_package_is_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["alpo", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("zoo.methods.alpo", run_name="__main__")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "sample" in said
    assert "segment" in said


def test_what_was_written_is_done(tmp_path: Path) -> None:
    """At once, and for the run that goes on."""
    file = GrowingFile(tmp_path / "lines.jsonl", {})
    file.append("a", {"id": "a"})
    assert file.done == GrowingFile(tmp_path / "lines.jsonl", {}).done == {"a"}
