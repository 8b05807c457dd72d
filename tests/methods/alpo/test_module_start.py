"""`python -m zoo.methods.alpo` runs its commands; a file that grows knows what it has."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from zoo.errors import InputError
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


def test_a_new_file_says_what_its_lines_depend_on(tmp_path: Path) -> None:
    """Tuples are lists there; a setting that is new or gone is another one."""
    path = tmp_path / "x.jsonl"
    GrowingFile(path, {"a": (1, 2), "name": "é"}).append("1", {"id": "1"})
    card = (tmp_path / "x.jsonl.settings.json").read_text("utf-8")
    assert json.loads(card) == {"a": [1, 2], "name": "é"}
    assert GrowingFile(path, {"a": (1, 2), "name": "é"}).done == {"1"}
    for settings, other in (({"a": (1, 2)}, "name"), ({"a": 1, "name": "é", "b": 2}, "a, b")):
        with pytest.raises(InputError, match=f"other settings: {other} "):
            GrowingFile(path, settings)
    path.write_bytes(b'{"id": "1')  # not one whole line
    assert GrowingFile(path, {"a": (1, 2), "name": "é"}).done == set()
    assert path.read_bytes() == b""
