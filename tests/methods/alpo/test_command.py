"""The parts of `python -m zoo.methods.alpo`: scorers by name, written segments, counts in words."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import zoo
from zoo.cache import digest
from zoo.errors import InputError
from zoo.methods.alpo import __main__ as command
from zoo.methods.alpo.scoring import ChoiceScorer, JsonScorer, ReferenceScorer
from zoo.records import SubtitleBlock


def test_scorers_by_name() -> None:
    """A judge is needed but for likeness to the reference."""
    assert isinstance(command.Scoring().scorer(0), ReferenceScorer)
    for kind in ("choice", "json"):
        with pytest.raises(InputError, match=f"scoring.{kind}: needs a judge"):
            command.Scoring(kind=kind).scorer(0)


def test_a_scorers_judge_has_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Window and temperature are the judge's, votes and seed the scorer's."""
    seen: dict[str, Any] = {}

    def load(judge: Any, **options: Any) -> str:
        seen.update(options)
        return "judge"

    monkeypatch.setattr(command.LocalLLM, "load", load)
    made = command.Scoring("json", zoo.Backbone("x"), 2, 1, 0.7, 99).scorer(3)
    assert isinstance(made, JsonScorer)
    assert (made.votes, made.retries, made.seed) == (2, 1, 3)
    assert (seen["temperature"], seen["max_length"]) == (0.7, 99)
    assert isinstance(command.Scoring("choice", zoo.Backbone("x")).scorer(3), ChoiceScorer)


class Episodes:
    """What `segment` asks of the data."""

    lines = ("a", "b", "c")

    def episodes(self, split: str) -> list[SubtitleBlock]:
        return [SubtitleBlock(self.lines, id=split)]


def test_segments_of_single_lines_need_no_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was written is not written again; other data, and no judge, are one line."""
    output = tmp_path / "lines.jsonl"
    for _ in range(2):
        command.segment(Episodes(), str(output), "line")
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    text = digest(["a", "b", "c"])
    assert rows == [
        {"id": split, "lines": 3, "text": text, "starts": [0, 1, 2]}
        for split in ("train", "val", "test")
    ]
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "train: 3 lines, 3 segments"
    assert said[3:] == [f"segments    {output}: 3 episodes"] * 2
    with pytest.raises(InputError, match="kind semantic: needs a judge"):
        command.segment(Episodes(), str(tmp_path / "new.jsonl"))
    with pytest.raises(InputError, match="SimpleNamespace has no episodes"):
        command.segment(SimpleNamespace(), str(output), "line")
    with pytest.raises(InputError, match="max_lines: 0 is not above 0"):
        command.segment(Episodes(), str(output), "line", max_lines=0)
    command.segment(Episodes(), str(output), "line", max_lines=8)


@pytest.mark.parametrize(
    ("lines", "fields"), [(("a", "b"), "lines, text"), (("a", "b", "x"), "text")]
)
def test_segments_of_other_lines_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], fields: str
) -> None:
    """Also where their number is the same; a file of before the digests is gone on with."""
    output = tmp_path / "lines.jsonl"
    command.segment(Episodes(), str(output), "line")
    old = [{"id": name, "lines": 3, "starts": [0, 1, 2]} for name in ("train", "val")]
    monkeypatch.setattr(Episodes, "lines", lines)
    with pytest.raises(InputError, match=rf"jsonl:1: train was made of .* now, by {fields}; name"):
        command.segment(Episodes(), str(output), "line")
    monkeypatch.undo()
    output.write_text("".join(json.dumps(row) + "\n" for row in old))
    command.segment(Episodes(), str(output), "line")
    assert [json.loads(row)["id"] for row in output.read_text().splitlines()][2:] == ["test"]


def test_counts_are_told_in_words() -> None:
    assert command.told(Counter({"samples": 3, "segments": 1})) == "3 samples, 1 segments"
