"""Scores of SoVA's replies, by hand."""

from __future__ import annotations

import math

import pytest

from zoo.methods.sova.metrics import ReplyOverlap


def test_replies_are_scored_by_words_and_pairs_of_words() -> None:
    """`bleu_2` of a b d beside a b c: two words of three and one pair of two are right."""
    score = ReplyOverlap()
    assert score.compute() == {}
    score.update(["a b d"], ["a b c"])
    found = score.compute()
    assert found["bleu_2"] == pytest.approx(100 * math.sqrt(2 / 3 * 1 / 2))
    assert found["rouge_l"] == pytest.approx(100 * 2 / 3)
