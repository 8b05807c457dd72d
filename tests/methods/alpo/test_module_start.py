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


@pytest.mark.parametrize("text", ["{broken", "[1]", ""])
def test_broken_settings_are_bad_input(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.jsonl"
    GrowingFile(path, {"a": 1}).append("1", {"id": "1"})
    (tmp_path / "x.jsonl.settings.json").write_text(text)
    with pytest.raises(InputError, match=r"x.jsonl.settings.json: no settings \(.*name a new file"):
        GrowingFile(path, {"a": 1})


def test_a_file_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    for path in (tmp_path / "x" / "y.jsonl", tmp_path / ("a" * 260)):
        with pytest.raises(InputError, match=r"output: .* cannot be written"):
            GrowingFile(path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_object_of_other_data_is_refused(tmp_path: Path) -> None:
    """Its settings are the same; one that this run does not make stays, as with fewer records."""
    path = tmp_path / "x.jsonl"
    GrowingFile(path, {}).append("a", {"id": "a", "lines": 3})
    said = r"x.jsonl:1: a was made of other data than there is now, by lines; name a new file"
    with pytest.raises(InputError, match=said):
        GrowingFile(path, {}, {"a": {"lines": 2}})
    for known in ({"a": {"lines": 3}}, {"a": {"lines": 3, "text": "new"}}, {"b": {"lines": 2}}):
        assert GrowingFile(path, {}, known).done == {"a"}
