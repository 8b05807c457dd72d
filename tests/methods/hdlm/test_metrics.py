"""Scores of label paths."""

from __future__ import annotations

import pytest

from zoo.methods.hdlm.metrics import FAILED, confusion, path_scores


def test_a_path_is_right_if_every_level_is() -> None:
    gold = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    found = [("a", "x"), ("b", "y"), ("b", "y"), (FAILED, FAILED)]
    scores = path_scores(found, gold)
    assert scores["level_1_accuracy"] == 0.5
    assert scores["level_2_accuracy"] == 0.5
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
