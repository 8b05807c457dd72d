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
        ("the", ""),
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
