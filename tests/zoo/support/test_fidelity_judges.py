"""Verdicts of judges of support: order of replies, ties, rates against the data's replies."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from support_judges import by_length, points, replies

from zoo.judges.judge import ScriptedJudge
from zoo.support.judging import SupportJudge, against_data, both_orders, win_rates


def always(verdict: str) -> Callable[[str], str]:
    return lambda asked: verdict


def noisy(asked: str) -> str:
    """A judge that is moved by everything, the order of the replies included."""
    verdict = random.Random("|".join(replies(asked))).choice(["A", "B", "C"])
    return f"[[{verdict}]]"


@pytest.mark.fidelity("esc_metrics", 8)
@pytest.mark.parametrize("chooser", [noisy, by_length, *map(always, ("[[A]]", "[[B]]", "[[C]]"))])
def test_the_verdict_does_not_know_the_order(chooser: Any) -> None:
    """Swapping the two replies swaps win and lose and keeps ties, whatever the judge does."""
    judge = SupportJudge(ScriptedJudge(chooser))
    mirrored = {"win": "lose", "lose": "win", "tie": "tie"}
    seen = Counter()
    for decision, reply in points(60):
        ahead = both_orders(judge, decision, reply, decision.target).result
        behind = both_orders(judge, decision, decision.target, reply).result
        assert behind == mirrored[ahead]
        seen[ahead] += 1
    if chooser is noisy:
        assert len(seen) == 3  # all three kinds were tried
    elif chooser is not by_length:
        assert seen == {"tie": 60}  # a judge that likes a place decides nothing


@pytest.mark.fidelity("esc_metrics", 8)
def test_disagreement_is_a_tie() -> None:
    """All nine pairs of verdicts, by the definition."""
    (decision, reply), *_ = points(1)
    letters = {"A": "A", "B": "B", "tie": "C"}
    for one in letters:
        for two in letters:
            verdicts = iter([f"[[{letters[one]}]]", f"[[{letters[two]}]]"])
            judge = SupportJudge(ScriptedJudge(lambda asked, v=verdicts: next(v)))
            expected = {("A", "B"): "win", ("B", "A"): "lose"}.get((one, two), "tie")
            outcome = both_orders(judge, decision, reply, decision.target)
            assert (outcome.result, outcome.choices) == (expected, (one, two))


@pytest.mark.fidelity("esc_metrics", 8)
def test_rates_against_the_data() -> None:
    """Win, tie and lose against the dataset's replies, in percent of what was judged."""
    grades = {"reply 0": 5, "gold 0": 2, "reply 1": 1, "gold 1": 2, "reply 2": 3, "gold 2": 3}

    def by_grade(asked: str) -> str:
        a, b = (grades.get(text) for text in replies(asked))
        if a is None or b is None:
            return "I know neither."
        return "[[C]]" if a == b else "[[A]]" if a > b else "[[B]]"

    outcomes = against_data(SupportJudge(ScriptedJudge(by_grade)), points(4))
    assert [o.result for o in outcomes] == ["win", "lose", "tie", "failed"]
    third = pytest.approx(100 / 3)
    rates = {"win": third, "tie": third, "lose": third, "judged": 3, "failed": 1, "retried": 0}
    assert win_rates(outcomes) == rates
