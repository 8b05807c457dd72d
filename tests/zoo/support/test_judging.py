"""How a judge of support is asked: its wording, failures and retries, what counts as an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support_judges import Flaky, by_length, grades, points, replies

from zoo.errors import InputError
from zoo.judges.judge import JudgeError, ScriptedJudge
from zoo.records import SUPPORTER, Turn
from zoo.support.judge_prompts import comparison, grading, read_choice, read_grade
from zoo.support.judging import Grade, SupportJudge, Verdict, against_data, win_rates

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


# -- what counts as an answer -------------------------------------------------------------------


@pytest.mark.parametrize("value", ["4", None, float("nan"), 99, -1])
def test_a_grade_is_a_number_from_0_to_5(value: Any) -> None:
    with pytest.raises(JudgeError, match="no grade from 0 to 5"):
        Grade(value, "words")


def test_a_verdict_is_a_b_or_tie() -> None:
    choice: Any = "D"
    with pytest.raises(JudgeError, match="no verdict: 'D'"):
        Verdict(choice)
