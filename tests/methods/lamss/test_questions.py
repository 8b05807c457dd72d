"""Wording of questions, what counts as right, and bad records."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

import zoo.methods.lamss.baseline_encoder
import zoo.methods.lamss.questions
from zoo.encoding import NO_HEAD
from zoo.errors import InputError
from zoo.methods.lamss.baseline_encoder import SURE, ConfidenceEncoder, fork, number_said
from zoo.methods.lamss.questions import (
    asked,
    check,
    follow_up,
    gold,
    key,
    letters,
    opening,
    right,
)
from zoo.prompts.chat_format import CHATML
from zoo.records import PlainText, Question, Triple
from zoo.tiny_models import byte_tokenizer

CHOICE = Question("Where is it?", ("bag", "box", "hat"), 1, id="q:1")
OPEN = Triple("Where is it?", "", "the box", id="t:1")


def test_what_is_asked() -> None:
    assert asked(CHOICE) == "Where is it?\nA: bag\nB: box\nC: hat"
    assert letters(CHOICE) == ["A", "B", "C"]
    assert (gold(CHOICE), gold(OPEN)) == ("B", "the box")
    assert asked(OPEN) == "Where is it?"
    assert letters(OPEN) is None
    assert key(CHOICE) == "q:1"
    assert key(Triple("Who?", "", "x")) == "Who?"
    assert doctest.testmod(zoo.methods.lamss.questions).failed == 0
    assert doctest.testmod(zoo.methods.lamss.baseline_encoder).failed == 0


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        *[("B", True), (" B\n", True), ("B: box", True), ("(B)", True), ("B. box", True)],
        *[("A", False), ("", False), ("box", False), ("b", False), ("Box", False)],
        *[("A box", False), ("Bag", False), ("I say B", False), ("C: not B", False)],
    ],
)
def test_letters_that_are_right(answer: str, good: bool) -> None:
    assert right(CHOICE, answer) is good


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        *[("the box", True), ("Box.", True), ("It is in the box, I think", True)],
        *[("boxes", False), ("", False), ("the", False), ("the bag", False)],
    ],
)
def test_open_answers_that_are_right(answer: str, good: bool) -> None:
    assert right(OPEN, answer) is good


def test_a_gold_answer_of_an_article_must_be_equal() -> None:
    """It normalises to nothing, which everything would contain."""
    assert not right(Triple("Which?", "", "The"), "a box")


def test_turns_around_an_answer() -> None:
    segments = follow_up(CHATML, CHOICE, "A", "Sure?")
    text = "".join(segment.text for segment in segments)
    assert text == (
        "<|im_start|>system\nYou answer a question with the letter of the right option.<|im_end|>\n"
        "<|im_start|>user\nWhere is it?\nA: bag\nB: box\nC: hat<|im_end|>\n"
        "<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nSure?<|im_end|>"
    )
    assert {segment.head for segment in segments} == {NO_HEAD}
    assert segments[: len(opening(CHATML, CHOICE))] == opening(CHATML, CHOICE)
    encoder = ConfidenceEncoder(byte_tokenizer())
    alone = [i for s in segments for i in encoder.tokenizer(s.text).input_ids]
    assert encoder.segment_ids(segments) == alone
    assert encoder.segment_ids([]) == []


def test_a_system_line_of_the_record_is_kept() -> None:
    assert "Be brief." in opening(CHATML, Triple("Why?", "", "x", system="Be brief."))[1].text


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Triple("Why?", "", " ", id="t:2"), "t:2: the field 'answer' is empty"),
        (Triple(" ", "", "x"), "question: the field 'query' is empty"),
        (Question(" ", ("a", "b"), 0, id="q:2"), "q:2: the field 'question' is empty"),
        (Question("Why?", ("a",), 0, id="q:3"), "q:3: 1 options; 2 to 26 have letters"),
        (Question("Why?", ("a",) * 27, 0), "question: 27 options"),
        (Question("Why?", ("a", "b"), 2, id="q:4"), "q:4: gold is 2, of 2 options"),
        (Question("Why?", ("a", "b"), -1), "gold is -1"),
    ],
)
def test_bad_questions(record: Any, message: str) -> None:
    for call in (check, ConfidenceEncoder(byte_tokenizer())):
        with pytest.raises(InputError, match=message):
            call(record)


def test_text_is_learned_as_it_stands() -> None:
    (example,) = ConfidenceEncoder(byte_tokenizer())(PlainText("It is so."))
    assert example.labels[:-1] == example.input_ids[1:]
    assert sum(example.weights) == len("It is so.") - 1
    with pytest.raises(InputError, match="p:1: the text is empty"):
        ConfidenceEncoder(byte_tokenizer())(PlainText(" ", id="p:1"))
    with pytest.raises(InputError, match=r"p:2: 9 tokens.*max_length=8"):
        ConfidenceEncoder(byte_tokenizer(), max_length=8)(PlainText("It is so.", id="p:2"))


def test_the_window_leaves_room_for_what_is_asked_later() -> None:
    tokenizer = byte_tokenizer()
    encoder = ConfidenceEncoder(tokenizer, asks=("p_true", "sure"))
    needed = len(encoder.prompt(CHOICE)) + encoder.room
    longest = max(len(encoder.after(CHOICE, "x" * 32, name)) for name in ("p_true", "sure"))
    assert needed >= longest
    ConfidenceEncoder(tokenizer, asks=("p_true", "sure"), max_length=needed)(CHOICE)
    with pytest.raises(
        InputError, match=f"q:1: .* are more than the window max_length={needed - 1}"
    ):
        ConfidenceEncoder(tokenizer, asks=("p_true", "sure"), max_length=needed - 1)(CHOICE)


def test_the_question_after_the_answer_is_the_same_in_training_and_inference() -> None:
    """All but the token that decides, which is the last one and the only one learned there."""
    encoder = ConfidenceEncoder(byte_tokenizer(), asks=("sure",))
    for record in (CHOICE, OPEN):
        (example,) = encoder(record)
        start, sure, unsure = encoder.reaction("sure")
        assert encoder.after(record, gold(record), "sure") + start == example.input_ids[:-1]
        assert example.input_ids[-1] == sure != unsure
        assert [h for h in example.head_ids if h == SURE] == [SURE]
        assert example.head_ids[-2] == SURE


def test_where_sequences_part() -> None:
    assert fork([1, 2], [1, 3]) == ([1], 2, 3)
    assert fork([5], [6, 7]) == ([], 5, 6)
    for pair in (([1], [1, 2]), ([1, 2], [1, 2]), ([], [1])):
        with pytest.raises(ValueError, match="do not part"):
            fork(*pair)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        *[("85", 0.85), ("100%", 1.0), ("0", 0.0), ("I am 7 percent sure", 0.07), ("0.9", 0.9)],
        *[("99.5", 0.995), ("1", 0.01), ("1.0", 1.0), ("85 or 90", 0.85)],
        *[("", None), ("very sure", None), ("101", None), ("1000", None), ("1.5", 0.015)],
    ],
)
def test_numbers_that_are_said(text: str, share: float | None) -> None:
    assert number_said(text) == (None if share is None else pytest.approx(share))
