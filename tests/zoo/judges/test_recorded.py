"""Answers on file: torn lines, killed runs, failures, bad files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import InputError
from zoo.judges.judge import JudgeError
from zoo.judges.recorded import RecordedAnswers


def check(line: dict[str, Any]) -> None:
    """Take a number from 0 to 9 with words."""
    if not 0 <= {"number": line["value"]}[line["kind"]] <= 9:
        raise JudgeError(f"no number from 0 to 9: {line['value']}")
    _ = line["words"]


class Counting:
    """A file, and the number of questions that went to the judge."""

    def __init__(self, path: Path, judge: str | None = "counting") -> None:
        self.file, self.asked = RecordedAnswers(path, judge, check), 0

    def __call__(self, *keys: int) -> list[int]:
        asks = {key: partial(self._ask, key) for key in keys}
        return [self.file.answer("number", f"q{k}", str(k), asks[k])["value"] for k in keys]

    def _ask(self, key: int) -> dict[str, Any]:
        self.asked += 1
        return {"value": key, "words": f"I say {key}"}


def fails(words: str = "") -> dict[str, Any]:
    raise JudgeError("no number", words)


def test_answers_are_kept_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.jsonl"
    judge = Counting(path)
    assert (judge(1, 2, 1), judge.asked) == ([1, 2, 1], 2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {
        **{"kind": "number", "id": "q1", "key": "1", "judge": "counting"},
        **{"value": 1, "words": "I say 1"},
    }
    again, replayed = Counting(path), Counting(path, judge=None)
    assert (again(2, 1), again.asked) == ([2, 1], 0)
    assert (replayed(2, 1), replayed.asked) == ([2, 1], 0)
    assert len(path.read_text().splitlines()) == 2


def test_failed_answers_are_kept_for_reading_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    file = RecordedAnswers(path, "counting", check)
    for _ in range(2):
        with pytest.raises(JudgeError, match="no number"):
            file.answer("number", "q1", "1", lambda: fails("I like both"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["words"], line["error"]) for line in lines] == [("I like both", "no number")] * 2
    again = Counting(path)
    assert again.file.known == {}
    assert (again(1), again.asked) == ([1], 1)
    assert Counting(path, judge=None)(1) == [1]


def test_an_error_without_words_is_named(tmp_path: Path) -> None:
    def late() -> dict[str, Any]:
        raise TimeoutError

    file = RecordedAnswers(tmp_path / "answers.jsonl", "slow", check)
    with pytest.raises(TimeoutError):
        file.answer("number", "q1", "1", late)
    line = json.loads(file.path.read_text())
    assert (line["error"], line["words"]) == ("TimeoutError", "")


def test_what_is_not_on_file_fails_without_a_judge(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    Counting(path)(1)
    with pytest.raises(JudgeError, match=r"q2: no recorded answer in answers.jsonl"):
        Counting(path, judge=None)(2)


def test_a_torn_line_is_cut_off_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    Counting(path)(*range(6))
    whole = path.read_bytes()
    for cut in (1, 20, len(whole.rstrip(b"\n").rpartition(b"\n")[2])):
        path.write_bytes(whole[:-cut])
        assert len(Counting(path, judge=None).file.known) == 5
        assert path.read_bytes() == whole[:-cut]  # replaying changes nothing
        judge = Counting(path)
        assert (judge(*range(6)), judge.asked) == ([0, 1, 2, 3, 4, 5], 1)
        assert path.read_bytes() == whole


KILLED = """
import os, sys
from zoo.judges.recorded import RecordedAnswers

def ask(key):
    if key == 3:
        os.kill(os.getpid(), 9)
    return {"value": key, "words": ""}

file = RecordedAnswers(sys.argv[1], "counting", lambda line: None)
for key in range(6):
    file.answer("number", f"q{key}", str(key), lambda: ask(key))
"""


def test_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=environment)
    assert done.returncode == -9
    judge = Counting(path)
    assert len(judge.file.known) == 3
    assert (judge(*range(6)), judge.asked) == ([0, 1, 2, 3, 4, 5], 3)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("{", "a.jsonl:2: no recorded answer"),
        ("[]", "a.jsonl:2: no recorded answer"),
        ('{"kind": "number", "judge": "counting"}', "a.jsonl:2: no recorded answer ('key')"),
        ('{"judge": "counting", "key": "1", "error": ""}', "no recorded answer ('kind')"),
        ('{"kind": "number", "judge": "counting", "key": "1"}', "no recorded answer ('value')"),
        ('{"kind": "x", "judge": "counting", "key": "1", "value": 1}', "no recorded answer ('x')"),
        (
            '{"kind": "number", "judge": "counting", "key": "1", "value": "4", "words": ""}',
            "a.jsonl:2: no recorded answer",
        ),
        (
            '{"kind": "number", "judge": "counting", "key": "1", "value": 99, "words": ""}',
            "a.jsonl:2: no recorded answer (no number from 0 to 9: 99)",
        ),
        (
            '{"kind": "number", "judge": "x", "key": "1", "value": 2, "words": ""}',
            "an answer of 'x', but the judge is 'counting'; use another file",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, line: str, part: str) -> None:
    path = tmp_path / "a.jsonl"
    Counting(path)(0)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError) as caught:
        Counting(path)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of recorded answers"):
        Counting(tmp_path / "no.jsonl", judge=None)
