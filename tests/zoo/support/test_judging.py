"""What a judge of support is asked, how it is read, retried and kept on file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support_judges import Flaky, ScriptedJudge, by_length, points, replies

from zoo.backbone import Backbone, load
from zoo.errors import InputError
from zoo.judges.judge import JudgeError, persist
from zoo.judges.local import LocalLLM
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import Decision, decisions
from zoo.support.judge_prompts import comparison, grading, read_choice, read_grade
from zoo.support.judging import (
    Grade,
    SupportJudge,
    Verdict,
    against_data,
    both_orders,
    win_rates,
)
from zoo.support.simulation import SimulatedSeeker, simulate


def grades(
    judge: SupportJudge, pairs: Iterable[tuple[Decision, Turn]], retries: int
) -> list[tuple[float | None, list[str]]]:
    """Return the grade of each reply, None for a failure, and why attempts failed."""
    graded = []
    for decision, reply in pairs:
        grade, why = persist(lambda n, d=decision, r=reply: judge.grade(d, r, n), retries)
        graded.append((grade and grade.value, why))
    return graded


# -- retries -----------------------------------------------------------------------------------

ERRORS = [lambda: JudgeError("rubbish", "??"), TimeoutError, lambda: ConnectionError("gone")]


@pytest.mark.parametrize("error", ERRORS)
def test_a_failing_judge_is_asked_again(error: Callable[[], Exception]) -> None:
    judge = Flaky(2, error)
    outcomes = against_data(SupportJudge(judge), points(2), retries=2)
    assert [o.result for o in outcomes] == ["win", "win"]
    assert judge.attempts == [0, 1, 2] * 4  # two orders of two samples
    assert all(len(o.failures) == 4 for o in outcomes)
    assert win_rates(outcomes) == {
        **{"win": 100, "tie": 0, "lose": 0},
        **{"judged": 2, "failed": 0, "retried": 2},
    }


@pytest.mark.parametrize("error", ERRORS)
def test_a_sample_that_fails_every_time_is_marked_and_the_run_goes_on(
    error: Callable[[], Exception],
) -> None:
    def mixed(asked: str) -> str:
        if "worry about 1" in asked:
            raise error()
        if "worry about 2" in asked:
            return "I cannot say."
        return by_length(asked)

    judge = SupportJudge(ScriptedJudge(mixed))
    first, second, third = against_data(judge, points(3), retries=1)
    assert (first.result, second.result, third.result) == ("win", "failed", "failed")
    assert second.choices == (None, None)
    assert len(second.failures) == 4
    assert type(error()).__name__ in second.failures[0]
    assert win_rates([first, second])["win"] == 100
    assert win_rates([first, second])["failed"] == 1
    assert win_rates([second]) == {"judged": 0, "failed": 1, "retried": 0}


def test_half_a_failure_is_a_failure() -> None:
    def one_way(asked: str) -> str:
        if replies(asked)[0].startswith("gold"):
            raise JudgeError("no")
        return "[[A]]"

    (outcome,) = against_data(SupportJudge(ScriptedJudge(one_way)), points(1))
    assert (outcome.result, outcome.choices) == ("failed", ("A", None))


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        against_data(SupportJudge(Flaky(1, ZeroDivisionError)), points(1))


def test_grades() -> None:
    late = ["TimeoutError: "]
    assert grades(SupportJudge(Flaky(1, TimeoutError)), points(2), 1) == [(4.0, late)] * 2
    assert grades(SupportJudge(Flaky(1, TimeoutError)), points(2), 0) == [(None, late)] * 2


def test_a_judge_is_asked_or_read_from_a_file() -> None:
    with pytest.raises(InputError, match="give a judge, a file of recorded answers, or both"):
        SupportJudge()


# -- recorded answers --------------------------------------------------------------------------


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


# -- wording -----------------------------------------------------------------------------------


def test_the_judge_sees_history_strategies_and_both_replies() -> None:
    (decision, reply), *_ = points(1)
    (_, system), (_, asked) = comparison(decision, reply, decision.target)
    order = ["strategy that fits", "overall quality", "natural", "consistent", "[[A]]", "[[C]]"]
    assert [system.index(word) for word in order] == sorted(system.index(word) for word in order)
    for part in (
        "Situation: Exam 0.",
        "Seeker's emotion: anxiety",
        "Seeker: I worry about 0.",
        "Reply A (strategy: Others):\nreply 0",
        "Reply B (strategy: Question):\ngold 0",
    ):
        assert part in asked


def test_a_strategy_alone_can_be_graded() -> None:
    (decision, _), *_ = points(1)
    (_, _), (_, asked) = grading(decision, Turn(SUPPORTER, "", "Self-disclosure"))
    assert "next strategy: Self-disclosure (tell of something similar" in asked
    assert "next reply" not in asked
    (_, _), (_, asked) = grading(decision, Turn(SUPPORTER, "Why?"))
    assert "next strategy" not in asked
    assert "next reply: Why?" in asked


def test_reading_of_answers() -> None:
    assert read_choice("[[A]] no, wait: [[ C ]]") == "tie"
    assert [read_choice(t) for t in ("[A]", "[[D]]", "", "A is better")] == [None] * 4
    assert [read_grade(t) for t in ("[[0]]", "[[3.5]]", "[[4/5]]", "[[1]] [[5]]")] == [0, 3.5, 4, 5]
    assert [read_grade(t) for t in ("[[6]]", "[[-1]]", "4", "")] == [None] * 4


# -- local models ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llm() -> LocalLLM:
    lm, tokenizer = load(Backbone("tiny-llama"))
    return LocalLLM(lm.eval(), tokenizer, max_new_tokens=12, name="tiny")


def says(llm: LocalLLM, words: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Let a model say given words; return what it is asked, with the seed."""
    asked: list[tuple[Any, Any]] = []

    def write(turns: Any, seed: int | None = None) -> str:
        asked.append((turns, seed))
        return words

    monkeypatch.setattr(llm, "write", write)
    return asked


def test_a_model_that_writes_rubbish_is_asked_again_by_sampling(llm: LocalLLM) -> None:
    judge = SupportJudge(llm)
    (outcome,) = against_data(judge, points(1), retries=1)
    assert outcome.result == "failed"
    assert "no [[A]], [[B]] or [[C]] in the answer" in outcome.failures[0]
    ((_, why),) = grades(judge, points(1), 0)
    assert "no grade from 0 to 5" in why[0]


def test_a_models_verdict_is_read(llm: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = says(llm, "The first one. [[A]] [[3]]", monkeypatch)
    judge = SupportJudge(llm)
    (decision, reply), *_ = points(1)
    words = "The first one. [[A]] [[3]]"
    assert judge.compare(decision, reply, decision.target) == Verdict("A", words)
    assert judge.grade(decision, reply, attempt=2).value == 3
    assert [seed for _, seed in asked] == [None, 2]  # greedy first, then sampled
    assert both_orders(judge, decision, reply, decision.target).result == "tie"


def test_a_model_without_verdict_can_be_forced(
    llm: LocalLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict is then the likeliest after its words, the grade the mean under its odds."""
    judge = SupportJudge(llm, forced=True)
    assert judge.name == "tiny-forced"
    (decision, reply), *_ = points(1)
    words = "I like both."
    asked = says(llm, words, monkeypatch)
    verdict, grade = judge.compare(decision, reply, reply), judge.grade(decision, reply)
    assert verdict.words == grade.words == words
    odds = []
    for (chat, _), options in zip(asked, ("ABC", "012345"), strict=True):
        ids = llm.ids(chat) + llm.tokenizer(f"{words}\n[[")["input_ids"]
        logits = llm.lm(input_ids=torch.tensor([ids])).logits[0, -1]
        odds.append(logits[[llm.tokenizer(o)["input_ids"][0] for o in options]].softmax(0))
    assert verdict.choice == ("A", "B", "tie")[int(odds[0].argmax())]
    assert grade.value == pytest.approx((odds[1] * torch.arange(6)).sum().item(), abs=1e-4)
    says(llm, "[[B]] [[2]]", monkeypatch)  # what it says itself comes first
    assert judge.compare(decision, reply, reply).choice == "B"
    assert judge.grade(decision, reply).value == 2


def test_old_turns_are_left_out_of_a_long_conversation(
    llm: LocalLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = []
    for i in range(30):
        turns += [Turn(SEEKER, f"worry number {i} " * 5), Turn(SUPPORTER, f"why {i}", "Question")]
    decision = decisions(Dialogue(tuple(turns), id="long"))[-1]
    asked = says(llm, "[[B]]", monkeypatch)
    SupportJudge(llm).compare(decision, decision.target, decision.target)
    (chat, _) = asked[0]
    assert llm.fits(chat)
    assert "worry number 29" in chat[1][1]
    assert "worry number 0 " not in chat[1][1]


def test_a_prompt_that_cannot_fit_fails(llm: LocalLLM) -> None:
    long = Turn(SUPPORTER, "x" * 3000)
    (decision, _), *_ = points(1)
    outcome = both_orders(SupportJudge(llm), decision, long, long, retries=0)
    assert "does not fit into max_length=2048" in outcome.failures[0]


@pytest.mark.slow
def test_a_real_model_judges_and_seeks(tmp_path: Path) -> None:
    """A small instruction-tuned model is asked, recorded and retried, and holds a conversation."""
    writer = LocalLLM.load(Backbone("smollm2-135m"), max_new_tokens=48)
    judge = SupportJudge(writer, file=tmp_path / "j.jsonl")
    ((grade, why),) = grades(judge, points(1), 1)
    lines = [json.loads(line) for line in (tmp_path / "j.jsonl").read_text().splitlines()]
    assert len(lines) == len(why) + (grade is not None)
    assert all(line["words"] for line in lines)  # it says something each time
    talked = simulate(SimulatedSeeker(writer, "my exams"), lambda turns: "Go on.", max_rounds=2)
    assert talked.rounds == 2 or talked.stopped
    assert all(turn.text for turn in talked.turns)


@pytest.mark.parametrize("value", ["4", None, float("nan"), 99, -1])
def test_a_grade_is_a_number_from_0_to_5(value: Any) -> None:
    with pytest.raises(JudgeError, match="no grade from 0 to 5"):
        Grade(value, "words")


def test_a_verdict_is_a_b_or_tie() -> None:
    choice: Any = "D"
    with pytest.raises(JudgeError, match="no verdict: 'D'"):
        Verdict(choice)


@pytest.mark.parametrize(
    "answer", [{"grade": "4", "words": ""}, {"grade": 4.0}, {"grade": 99, "words": ""}]
)
def test_a_recorded_line_that_is_no_answer(tmp_path: Any, answer: dict[str, Any]) -> None:
    file = tmp_path / "grades.jsonl"
    file.write_text(json.dumps({"kind": "grade", "judge": "j", "key": "k", **answer}) + "\n")
    with pytest.raises(InputError, match="grades.jsonl:1: no recorded answer"):
        SupportJudge(file=file)
