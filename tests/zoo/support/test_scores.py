"""Scores of a set of answered decisions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dialogues import TALK

from zoo.support.decisions import decisions
from zoo.support.labels import SUPPORT
from zoo.support.reply import AnsweredDecision, SupportReply
from zoo.support.scores import reply_scores


def test_decisions_without_a_strategy_leave_the_scores_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Strategies are scored where one is annotated, texts everywhere; how many is said."""
    first, second = decisions(TALK)
    right = AnsweredDecision(first, SupportReply("When?", first.target.strategy), "")
    wrong = AnsweredDecision(second, SupportReply("Oh", "Others"), "")
    unnamed = replace(second, dialogue="talk:2", target=replace(second.target, strategy=""))
    other = AnsweredDecision(unnamed, SupportReply("Oh", "Others"), "")
    some = reply_scores([right, wrong, other], labels=SUPPORT, draws=0)
    named = reply_scores([right, wrong], labels=SUPPORT, draws=0)
    strategies = ("accuracy", "proficiency", "weighted_f1", "bias", "early/accuracy")
    assert {name: some[name] for name in strategies} == {name: named[name] for name in strategies}
    assert some["accuracy"] == 50
    assert (some["answers"], some["dialogues"], named["answers"]) == (3, 2, 2)
    assert some["rouge_l"] == pytest.approx(named["rouge_l"] * 2 / 3)
    assert "2 of 3 decisions have a support strategy" in caplog.text
    none = reply_scores([other], labels=SUPPORT, draws=0)
    assert not {"accuracy", "bias"} & set(none)
