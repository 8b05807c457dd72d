"""ALPO's properties of what is chosen, rejected, gated and weighted, before any model."""

from __future__ import annotations

import random

import pytest
from methods.alpo.alpo_blocks import NARROW, OPEN, scored

from zoo.methods.alpo.choose import choose, pick_pair
from zoo.records import ScoredSegment


@pytest.mark.fidelity("alpo", 5)
def test_weights_sum_to_at_most_one_and_the_largest_beta_is_one() -> None:
    for seed in range(20):
        draw = random.Random(seed)
        lists = [
            [float(draw.randint(0, 100)) for _ in range(draw.randint(2, 9))]
            for _ in range(draw.randint(1, 5))
        ]
        choices = choose(scored(lists, seed, seed), seed)
        opened = [choice for choice in choices if choice.is_open]
        total = sum(choice.weight for choice in choices)
        assert total <= 1 + 1e-12
        assert (abs(total - 1) < 1e-12) == (len(opened) == len(choices))
        if opened:
            assert max(choice.beta for choice in opened) == 1
            assert all(0 < choice.beta <= 1 for choice in opened)
    counts = choose(scored([OPEN, NARROW, [1.0, 50.0, 60.0, 99.0]]), 0)
    assert [choice.weight for choice in counts] == [6 / 15, 0, 4 / 15]


@pytest.mark.fidelity("alpo", 8)
def test_chosen_is_of_the_three_best_and_rejected_the_third_worst() -> None:
    draw = random.Random(0)
    chosen_ranks, closed = set(), 0
    for trial in range(300):
        count = draw.randint(4, 12)
        scores = draw.sample(range(101), count)
        segment = ScoredSegment(
            tuple(("x" * (i + 1),) for i in range(count)), tuple(map(float, scores))
        )
        chosen, rejected = pick_pair(segment, random.Random(trial))
        order = sorted(scores, reverse=True)
        assert scores[chosen] in order[:3]
        chosen_ranks.add(order.index(scores[chosen]))
        if count >= 6:
            assert scores[rejected] == order[-3]
            assert scores[rejected] not in order[:3]
        elif scores[chosen] == order[-3]:
            assert scores[rejected] == order[-1]  # the worst other one
        else:
            assert scores[rejected] == order[-3]
        (choice,) = choose(scored([list(map(float, scores))], trial), 7)
        if choice.is_open:
            assert scores[choice.chosen] > scores[choice.rejected]
        closed += not choice.is_open
    assert chosen_ranks == {0, 1, 2}
    assert closed > 0  # ranks overlap where there are 4 or 5
    # Ties: the shorter ranks first for the chosen one, and lower for the rejected one.
    texts = (("long long",), ("mid mid",), ("a",), ("bb",), ("cccc",), ("ddddd",))
    tied = ScoredSegment(texts, (40.0, *[50.0] * 5))
    picks = {pick_pair(tied, random.Random(seed)) for seed in range(60)}
    assert {texts[c][0] for c, _ in picks} == {"a", "bb", "cccc"}
    assert {texts[r][0] for c, r in picks if texts[c][0] != "bb"} == {"bb"}
    assert {texts[r][0] for c, r in picks if texts[c][0] == "bb"} == {"long long"}


@pytest.mark.fidelity("alpo", 8)
def test_scores_are_rounded_before_the_gate() -> None:
    """A range of 5.004 rounds to 5.00 and is closed, 5.006 to 5.01 and is open."""
    for spread, is_open in ((5.004, False), (5.006, True)):
        scores = [10.0, 10.0 + spread, 10.0 + spread, 10.0 + spread, 10.0, 10.0]
        (choice,) = choose(scored([scores]), 0)
        assert choice.is_open == is_open


@pytest.mark.fidelity("alpo", 8)
def test_without_a_verdict_the_reference_is_chosen() -> None:
    choices = choose(scored([None, OPEN]), 0)
    assert (choices[0].chosen, choices[0].is_open) == (0, False)
    assert choices[1].weight == 6 / 9  # its candidates count in the sum
