"""Answers of a judge of support on file: recorded, replayed, and read again by other code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support_judges import Flaky, grades, points

from zoo.errors import InputError
from zoo.judges.judge import ScriptedJudge
from zoo.records import SEEKER, Turn
from zoo.support.judging import Grade, SupportJudge, against_data, both_orders


def test_answers_are_recorded_and_replayed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "judge.jsonl"
    flaky, silent = Flaky(0, TimeoutError), Flaky(9, TimeoutError)
    judge = SupportJudge(flaky, file=path)
    outcomes, graded = against_data(judge, points()), grades(judge, points(), 0)
    assert len(flaky.attempts) == 9
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 9
    assert lines[0] == {
        **{"kind": "compare", "id": "d0, turn 1", "key": lines[0]["key"]},
        **{"judge": "flaky", "choice": "A", "words": "[[A]] [[4]]"},
    }
    again = SupportJudge(silent, file=path)
    assert (against_data(again, points()), grades(again, points(), 0)) == (outcomes, graded)
    assert silent.attempts == []
    replayed = SupportJudge(file=path)
    assert against_data(replayed, reversed(points())) == outcomes[::-1]
    assert len(path.read_text().splitlines()) == 9


def test_answers_of_older_code_are_read(tmp_path: Path) -> None:
    """Lines as they were written before judges were asked in messages; the words hold no grade."""
    path = tmp_path / "judge.jsonl"
    compare = {"kind": "compare", "id": "d0, turn 1", "judge": "old-forced", "words": "The first."}
    ahead = "c229381578a3406c1a6830ab940bbeae460a31787f135627bfbc32819407ef47"
    behind = "405899cc06c188de62e34cc4993f777646e0ca1ee42ad367eb454602a95c8ae0"
    grade = "1763c055a609afbba1c0e5064ccb879da684752b6bf8c89ec8ddf6959fe49808"
    lines = [
        {**compare, "key": ahead, "choice": "A"},
        {**compare, "key": behind, "choice": "B"},
        {**compare, "kind": "grade", "key": grade, "grade": 3.728, "words": "Warm."},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    judge = SupportJudge(file=path)
    ((decision, reply),) = points(1)
    assert both_orders(judge, decision, reply, decision.target).result == "win"
    assert judge.grade(decision, reply) == Grade(3.728, "Warm.")


def test_a_question_is_all_that_the_judge_sees(tmp_path: Path) -> None:
    flaky = Flaky(0, TimeoutError)
    judge = SupportJudge(flaky, file=tmp_path / "j.jsonl")
    (decision, reply), *_ = points()
    judge.grade(decision, reply)
    for other in (
        (decision, replace(reply, text="else")),
        (decision, replace(reply, strategy="Question")),
        (replace(decision, situation="else"), reply),
        (replace(decision, emotion="else"), reply),
        (replace(decision, turns=(Turn(SEEKER, "else"),)), reply),
    ):
        before = len(flaky.attempts)
        judge.grade(*other)
        assert len(flaky.attempts) == before + 1
    judge.grade(replace(decision, id="moved", depth=7), reply)  # the same question elsewhere
    assert len(flaky.attempts) == 6


def test_words_without_a_verdict_are_kept_for_reading_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    undecided = SupportJudge(ScriptedJudge(lambda asked: "I like both", "flaky"), file=path)
    (outcome,) = against_data(undecided, points(1), retries=1)
    assert outcome.result == "failed"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["words"] for line in lines] == ["I like both"] * 4
    assert all("no [[A]], [[B]] or [[C]] in the answer" in line["error"] for line in lines)
    again = SupportJudge(Flaky(0, TimeoutError), file=path)
    assert against_data(again, points(1))[0].result == "win"
    assert against_data(SupportJudge(file=path), points(1))[0].result == "win"


def test_what_is_not_on_file_fails_without_a_judge(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    against_data(SupportJudge(Flaky(0, TimeoutError), file=path), points(1))
    outcomes = against_data(SupportJudge(file=path), points(2))
    assert [o.result for o in outcomes] == ["win", "failed"]
    assert "no recorded answer in j.jsonl" in outcomes[1].failures[0]


@pytest.mark.parametrize(
    "answer", [{"grade": "4", "words": ""}, {"grade": 4.0}, {"grade": 99, "words": ""}]
)
def test_a_recorded_line_that_is_no_answer(tmp_path: Any, answer: dict[str, Any]) -> None:
    file = tmp_path / "grades.jsonl"
    file.write_text(json.dumps({"kind": "grade", "judge": "j", "key": "k", **answer}) + "\n")
    with pytest.raises(InputError, match="grades.jsonl:1: no recorded answer"):
        SupportJudge(file=file)
