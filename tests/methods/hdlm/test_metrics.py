"""Scores of label paths."""

from __future__ import annotations

from typing import Any

import pytest

from zoo.methods.hdlm.metrics import FAILED, confusion, has_letter, path_scores
from zoo.methods.hdlm.prompts import plans
from zoo.records import SEEKER, SUPPORTER, Dialogue, LabelPath, Question, Taxonomy, Turn


def test_a_path_is_right_if_every_level_is() -> None:
    gold = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    found = [("a", "x"), ("b", "y"), ("b", "y"), (FAILED, FAILED)]
    scores = path_scores(found, gold)
    assert scores["level_1_accuracy"] == 0.5
    assert scores["level_2_accuracy"] == 0.5
    # Level 1: a is found once of twice, 2/3; b twice and once right, 1/2. Level 2: x, y the same.
    assert scores["level_1_macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores["level_2_macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores["joint_accuracy"] == 0.25
    assert scores["joint_micro_f1"] == 0.25
    assert scores["failed"] == 0.25
    # a/x is found alone: 1. b/y is found twice and wrong both times; a/y and b/x never: 0.
    assert scores["joint_macro_f1"] == pytest.approx(1 / 4)


def test_one_name_under_two_parents_is_two_paths() -> None:
    scores = path_scores([("a", "x"), ("a", "x")], [("a", "x"), ("b", "x")])
    assert scores["level_2_accuracy"] == 1
    assert scores["joint_accuracy"] == 0.5
    assert scores["joint_macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_macro_f1_is_over_the_paths_of_the_gold() -> None:
    scores = path_scores([("a",), ("new",)], [("a",), ("a",)])
    assert scores["joint_macro_f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("found", [("a", "x"), (FAILED, FAILED)])
def test_all_right_or_all_failed(found: tuple[str, str]) -> None:
    right = FAILED not in found
    scores = path_scores([found] * 3, [("a", "x")] * 3)
    assert scores.pop("failed") == (not right)
    assert set(scores.values()) == {float(right)}


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        path_scores([("a",)], [("a",), ("b",)])


def test_confusion_has_a_last_column_for_what_is_no_class() -> None:
    table = confusion(["a", "b", FAILED, "b"], ["a", "a", "b", "b"], ["a", "b"])
    assert table == [[1, 1, 0], [0, 1, 1]]


def test_a_letter_is_a_word_of_its_own() -> None:
    assert has_letter("So it is (B).", "B")
    assert not any(has_letter(text, "B") for text in ("Because", "b", ""))


def test_each_kind_of_record_has_its_scores(make: Any) -> None:
    """Questions: loose accuracy. Dialogues: Dist-2 and CIDEr of the replies. Classes: neither."""
    module = make("HdLM", "tiny-llama")
    question = Question("2+2?", ("3", "4"), 1, rationale="Count.", id="q")
    said = "It is hard to be alone at night"
    turns = (Turn(SEEKER, "I am sad."), Turn(SUPPORTER, said, "Question"))
    other = Turn(SUPPORTER, "Tell me more about your work", "Question")
    dialogues = [Dialogue(turns, id="d"), Dialogue((turns[0], other), id="e")]
    text = LabelPath("Deaf.", ("med",), Taxonomy({(): ("med", "law")}), id="t")
    (asked,), (first,), (second,) = (plans(r, 2) for r in (question, *dialogues))
    (sorted_,) = plans(text, 1)
    scores = module.score_answers([(asked, ["Count.", "It is B, I think"])], "val")
    assert (scores["loose_accuracy"], scores["joint_accuracy"]) == (1.0, 0.0)
    assert "cider" not in scores
    scores = module.score_answers(
        [(first, ["Question", said]), (second, ["Question", said])], "val"
    )
    assert scores["dist_2"] == pytest.approx(50.0)  # 7 pairs of words, each twice
    assert scores["cider"] == pytest.approx(50.0, abs=1)  # one reply is the reference, one is not
    assert "loose_accuracy" not in scores
    scores = module.score_answers([(sorted_, ["med"])], "val")
    assert not {"dist_2", "cider", "loose_accuracy"} & scores.keys()
