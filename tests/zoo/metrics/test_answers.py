"""Accuracy of short answers."""

from __future__ import annotations

import pytest

from zoo.metrics.answers import AnswerAccuracy, exact, mentions, normalize


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The basket.", "basket"),
        ("  A  GREEN_suitcase! ", "green suitcase"),
        ("an apple, the pear", "apple pear"),
        ("theatre", "theatre"),
        ("Café", "café"),
        ("", ""),
        ("_ ", ""),
        ("the", "the"),
        ("A.", "a"),
        ("(A) the box", "a box"),
        ("Vitamin A", "vitamin a"),
        ('the "box"', "box"),
        ("-3.", "-3"),
        ("It is -2.5, not .5", "it is -2.5 not .5"),
        ("\u22123", "-3"),
        ("covid-19", "covid 19"),
        ("in 10-12 days", "in 10 12 days"),
        ("Step 3. Go", "step 3 go"),
        ("+", "+"),
        ("?", "?"),
    ],
)
def test_normalize(text: str, plain: str) -> None:
    assert normalize(text) == plain


@pytest.mark.parametrize(
    ("answer", "gold", "strict", "lenient"),
    [
        ("The box.", "box", True, True),
        ("the box", "The Box.", True, True),
        ("In the box.", "box", False, True),
        ("mailbox", "box", False, False),
        ("bag", "box", False, False),
        ("She looks in the green suitcase", "green_suitcase", False, True),
        ("green", "green_suitcase", False, False),
        ("", "box", False, False),
        ("A", "A", True, True),
        ("a.", "A", True, True),
        ("The answer is A", "A", False, True),
        ("The box", "A", False, False),
        ("", "A", False, False),
        ("?", "A", False, False),
        ("the", "A", False, False),
        ("Option A", "option", False, True),
        ("-3", "3", False, False),
        ("3", "-3", False, False),
        ("It is -3.", "-3", False, True),
        ("5", ".5", False, False),
        ("3.5", "3", False, False),
        ("3.", "3", True, True),
        ("+", "-", False, False),
        ("<", ">", False, False),
        ("", "", False, False),
        ("box", "", False, False),
    ],
)
def test_exact_and_mentions(answer: str, gold: str, strict: bool, lenient: bool) -> None:
    assert exact(answer, gold) is strict
    assert mentions(answer, gold) is lenient


def test_accuracy_counts_by_kind() -> None:
    score = AnswerAccuracy()
    score.update([], [])
    assert score.compute() == {}
    score.update(["box"] * 4, ["box", "bag", "box", "box"], [["a"], ["a"], ["b"], [""]])
    assert score.compute() == {"accuracy": 0.75, "accuracy_a": 0.5, "accuracy_b": 1.0}
    lenient = AnswerAccuracy(mentions, "mention_accuracy")
    found = lenient(["In the box."], ["box"], [["a", "a", "c"]])
    names = ("mention_accuracy", "mention_accuracy_a", "mention_accuracy_c")
    assert found == dict.fromkeys(names, 1.0)
