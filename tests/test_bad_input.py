"""Bad data: one line naming file, line or field and what would fit; status 2; nothing written."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from running import CONFIG, TINY, command, refusal

from datamodules.base import ZooDataModule
from zoo.encoding import NO_HEAD
from zoo.methods.sft import SFT
from zoo.prompts.thoughts import ThoughtEncoder
from zoo.records import Record, Triple

Refused = Callable[..., str]


@dataclass(frozen=True)
class Picture:
    """A record type that no method takes."""

    id: str = ""


class Pictures(ZooDataModule):
    """A data module that fits no method."""

    record_types = (Picture,)

    def load(self, split: str) -> list[Record]:
        return [Picture()]  # type: ignore[list-item]


class Mute(SFT):
    """A method whose encoder supervises nothing."""

    def build_encoder(self, tokenizer: object) -> ThoughtEncoder:
        return ThoughtEncoder(tokenizer, think=None, speak=NO_HEAD)


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Refused:
    """Run a command that must fail in an empty folder; return its line without `error: `."""
    monkeypatch.chdir(tmp_path)
    return partial(refusal, capfd, tmp_path)


# -- data --------------------------------------------------------------------------------------

GOOD = {"query": "q", "thought": "t", "answer": "a"}


def triples(tmp_path: Path, *lines: bytes, name: str = "data.jsonl") -> tuple[str, list[str]]:
    path = tmp_path / name
    path.write_bytes(b"\n".join(lines))
    args = ["--data", "datamodules.Triples", "--data.train", str(path), "--data.val", str(path)]
    return str(path), args


def test_missing_field(tmp_path: Path, refused: Refused) -> None:
    bad = {"query": "q", "thought": "t", "answr": "a"}
    path, args = triples(tmp_path, json.dumps(GOOD).encode(), json.dumps(bad).encode())
    assert refused(*args) == (
        f"{path}:2: unknown field 'answr'; did you mean 'answer'? "
        "(one of: answer, id, kind, query, system, thought)"
    )
    path, args = triples(tmp_path, b'{"query": "q"}')
    assert refused(*args).startswith(f"{path}:1: field 'answer' is missing")


def test_invalid_utf8(tmp_path: Path, refused: Refused) -> None:
    path, args = triples(tmp_path, json.dumps(GOOD).encode(), b'{"query": "\xff"}')
    assert refused(*args) == f"{path}:2: not UTF-8: byte 0xff at byte 12"


def test_truncated_gzip(tmp_path: Path, refused: Refused) -> None:
    path, args = triples(tmp_path, name="data.jsonl.gz")
    whole = gzip.compress(json.dumps(GOOD).encode() * 100)
    Path(path).write_bytes(whole[: len(whole) // 2])
    assert refused(*args).startswith(f"{path}: truncated")


def test_empty_file(tmp_path: Path, refused: Refused) -> None:
    path, args = triples(tmp_path)
    assert refused(*args) == f"{path}: the file is empty"


def test_missing_split(tmp_path: Path, refused: Refused) -> None:
    _, args = triples(tmp_path, json.dumps(GOOD).encode())
    said = refused(*args, verb="test")
    assert said == "Triples: no file for 'test'; set test to a JSONL file"


def test_dialogue_without_supporter(tmp_path: Path, refused: Refused) -> None:
    turns = [{"speaker": "usr", "text": "I lost my job.", "strategy": ""}]
    dialogue = {"emotion_type": "sadness", "problem_type": "job crisis", "situation": "x"}
    path = tmp_path / "train.txt"
    path.write_text(json.dumps({**dialogue, "dialog": turns, "survey_score": {}}) + "\n")
    said = refused("--data", "datamodules.ESConv", "--data.path", str(tmp_path))
    assert re.search(r"train\.txt:1: .*supporter", said)


def test_record_type_that_the_method_does_not_take(refused: Refused) -> None:
    said = refused("--data", "test_bad_input.Pictures")
    assert "Pictures yields Picture, but the method takes Triple, Dialogue" in said
    assert said.endswith("modules that fit: BigToM, ESConv, FalseBelief, ToMi, Triples")


def test_all_masked_example(refused: Refused) -> None:
    said = refused("--model", "test_bad_input.Mute", "--model.backbone.name", "tiny-llama")
    assert "no token is supervised" in said


def test_sample_longer_than_the_window(refused: Refused) -> None:
    assert "longer than the window max_length=50" in refused("--model.max_length", "50")


def test_prompt_longer_than_the_window(refused: Refused) -> None:
    said = refused("--prompt", "x" * 80, "--model.max_length", "60", verb="generate")
    assert "leaves no room in the window max_length=60" in said


def test_thought_that_is_missing(tmp_path: Path, refused: Refused) -> None:
    """MeTHanol cannot learn from a triple without thought; answers-only SFT can."""
    path, args = triples(tmp_path, b'{"query": "q", "answer": "a"}')
    assert refused(*args) == f"{Path(path).name}:1: the field 'thought' is empty"


def test_record_type_names_are_ours() -> None:
    """The test's own record type is unknown to every method."""
    assert Picture not in (*SFT.takes, Triple)


# -- a process of its own ----------------------------------------------------------------------


def test_process(tmp_path: Path) -> None:
    """No traceback, no usage, no log line, status 2; the run folder does not appear."""
    path, args = triples(tmp_path, b'{"query": "q"}')
    run = tmp_path / "run"
    for extra in (args, ["--trainer.max_step", "3"]):
        done = command(
            *("fit", "--config", CONFIG, *TINY, "--model.thinking_layer", "2"),
            *("--trainer.default_root_dir", str(run), *extra),
            cwd=tmp_path,
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [Path(path).name]
