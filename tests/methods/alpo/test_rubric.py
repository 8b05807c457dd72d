"""What a judge is asked about candidates, and which of its answers are scores."""

from __future__ import annotations

import pytest
from methods.alpo.alpo_blocks import block

import zoo
from zoo.methods.alpo.rubric import (
    ACCURACY,
    EXAMPLE,
    NATURALNESS,
    SYSTEM,
    VIVIDNESS,
    goes_on,
    grade_of_one,
    read_scores,
    scores_of_all,
    shown,
)


def test_a_judge_is_asked_for_every_candidate() -> None:
    """By letter, several lines in one string; the languages and the marked lines stand above."""
    asked = block(2)
    system, user = scores_of_all(asked, 0, 2, [("Yes.", "No."), ("Ja.", "Nein.")])
    assert system == ("system", SYSTEM)
    assert '\nA: "Yes. / No."\nB: "Ja. / Nein."\n' in user[1]
    assert "Lines of a film in Chinese" in user[1]
    assert "into English by\n- accuracy (30 %)" in user[1]
    assert "   先\n>> 源 0 0\n>> 源 0 1\n   后" in user[1]
    (_, one) = grade_of_one(asked, 0, 2, ("Yes.", "No."))[-1]
    assert "Translation:\nYes.\nNo.\n" in one
    assert "A: excellent\nB: good\n" in one
    (_, going) = goes_on(["a", "b", "c"], "de")[-1]
    assert "in German:\na\nb\n\nThe next line:\nc\n" in going


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ('{"A": 0, "B": 100}', [0, 100]),
        ('First {"A": 7, "B": 9} and {"A": 1, "B": 2}', [1, 2]),
        ('{"A": 7, "B": 9}, as {the lines} and {"A": 3} say', [7, 9]),
        ('{"A": true, "B": 2}', None),
        ('{"A": 1, "B": 101}', None),
        ('{"A": -1, "B": 1}', None),
        ('{"A": 1, "B": 2, "C": 3}', None),
        ("[1, 2]", None),
    ],
)
def test_scores_are_integers_from_0_to_100(words: str, found: list[int] | None) -> None:
    if found is not None:
        assert read_scores(words, 2) == found
        return
    with pytest.raises(zoo.judges.judge.JudgeError):
        read_scores(words, 2)


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 10**5 + "]" * 10**5])
def test_json_that_python_cannot_read_is_a_failure_of_the_judge(value: str) -> None:
    """Which is asked again and counted: a number of too many digits, lists in lists."""
    with pytest.raises(zoo.judges.judge.JudgeError, match="no JSON object"):
        read_scores(f'{{"A": {value}, "B": 3}}', 2)


def test_the_example_of_the_prompt_is_no_answer() -> None:
    """Whether a judge repeats it before its own scores, after them, or instead of them."""
    own = 'Mine: {"A": 5, "B": 6, "C": 7}'
    for words in (f"{EXAMPLE} {own}", f"{own} {EXAMPLE}"):
        assert read_scores(words, 3) == [5, 6, 7]
    with pytest.raises(zoo.judges.judge.JudgeError, match="the example of the prompt"):
        read_scores(EXAMPLE, 3)
    assert read_scores(f'{EXAMPLE} {{"A": 62, "B": 20}}', 2) == [62, 20]


def test_a_segment_is_shown_with_up_to_seven_lines_of_the_block_on_each_side() -> None:
    """At the ends of the core that is the block's own context, here a line on each side."""
    asked = block(20)
    sizes = {start: len(shown(asked, start, start + 1).split("\n")) for start in (0, 3, 9, 19)}
    assert sizes == {0: 1 + 1 + 7, 3: 4 + 1 + 7, 9: 7 + 1 + 7, 19: 7 + 1 + 1}
    assert shown(asked, 9, 10).split("\n")[7] == ">> 源 0 9"


def test_each_rubric_of_the_evaluation_is_asked_alone() -> None:
    """Three prompts of one criterion; the rubric of training stands in none of them."""
    for rubric in (ACCURACY, NATURALNESS, VIVIDNESS):
        (_, text) = grade_of_one(block(2), 0, 1, ("Yes.",), rubric=rubric)[-1]
        assert [row for row in text.split("\n") if row.startswith("- ")] == [f"- {rubric[0]}"]
