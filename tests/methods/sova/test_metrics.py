"""Scores of SoVA's replies by hand; agreement, ratios and differences of its choices."""

from __future__ import annotations

import math

import pytest

from zoo.methods.sova.expected import conflicts, expected_action
from zoo.methods.sova.metrics import ExpectedRatio, ReplyOverlap, paired_difference
from zoo.records import NOT_TO_DO, TO_DO, Dilemma


def test_replies_are_scored_by_words_and_pairs_of_words() -> None:
    """`bleu_2` of a b d beside a b c: two words of three and one pair of two are right."""
    score = ReplyOverlap()
    assert score.compute() == {}
    score.update(["a b d"], ["a b c"])
    found = score.compute()
    assert found["bleu_2"] == pytest.approx(100 * math.sqrt(2 / 3 * 1 / 2))
    assert found["rouge_l"] == pytest.approx(100 * 2 / 3)


def test_rules_that_agree_are_counted(dilemmas: list[Dilemma]) -> None:
    decided, alike = conflicts(dilemmas, "maslow_growth", "maslow_growth")
    assert decided == alike == sum(bool(expected_action(d, "maslow_growth")) for d in dilemmas)
    both, same = conflicts(dilemmas, "maslow_growth", "maslow_prepotency")
    assert 0 <= same <= both <= decided


def test_a_difference_needs_two_dilemmas(dilemmas: list[Dilemma]) -> None:
    (one, two, *_) = [d for d in dilemmas if expected_action(d, "maslow_growth")]
    for given, valid in (([one], False), ([one, two], True)):
        choices = [expected_action(d, "maslow_growth") for d in given]
        others = [NOT_TO_DO if c == TO_DO else TO_DO for c in choices]
        if not valid:
            with pytest.raises(ValueError, match="needs two decisive dilemmas"):
                paired_difference(given, choices, others, "maslow_growth")
            continue
        found = paired_difference(given, choices, others, "maslow_growth", draws=20)
        assert (found["difference"], found["decisive"]) == (1.0, 2.0)


def test_a_ratio_without_dilemmas_is_none() -> None:
    assert ExpectedRatio("maslow_growth").compute() == {}
