"""The action that a theory of values expects in a dilemma, and the theories' mean levels.

A dilemma is decisive for a rule if both actions have labels of its theory and they differ. With
B(a) the labels of action a, a value that stands twice counted twice:

    (E1)  Maslow, growth: the larger mean level of B(a) is expected
    (E2)  Maslow, prepotency: the smaller minimum of B(a), then more labels at that level, then the
          smaller mean: the action that guards the more basic need
    (E3)  Plutchik, valence: the larger mean valence of B(a)

Unknown in the paper, chosen here: all three. The two readings of Maslow agree on 6.4 % of the
dilemmas that both decide, so a number without the name of its rule says nothing. Levels, modes and
valences are for scoring alone; no prompt holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from zoo.errors import InputError, nearest
from zoo.records import NOT_TO_DO, THEORIES, TO_DO, Dilemma

Rule = Literal["maslow_growth", "maslow_prepotency", "plutchik_valence"]

LEVELS = {need: level for level, need in enumerate(THEORIES["maslow"], start=1)}
"""Physiological needs 1, ..., self-actualization 5."""

POSITIVE = ("trust", "joy", "love", "optimism", "anticipation")
NEUTRAL = ("submission",)
VALENCES = {
    emotion: 1 if emotion in POSITIVE else 0 if emotion in NEUTRAL else -1
    for emotion in THEORIES["emotion"]
}


def larger_mean(do: Sequence[int], dont: Sequence[int]) -> int:
    """Return the sign of mean(do) - mean(dont), computed in integers."""
    return sign(sum(do) * len(dont) - sum(dont) * len(do))


def more_basic(do: Sequence[int], dont: Sequence[int]) -> int:
    """Return 1 if `do` guards the more basic need, -1 if `dont` does, 0 if they are alike."""
    lowest = min(do), min(dont)
    if lowest[0] != lowest[1]:
        return sign(lowest[1] - lowest[0])
    at_lowest = do.count(lowest[0]) - dont.count(lowest[0])
    return sign(at_lowest) or -larger_mean(do, dont)


def sign(number: int) -> int:
    """Return -1, 0 or 1."""
    return (number > 0) - (number < 0)


RULES: dict[str, tuple[str, dict[str, int], Callable[[Sequence[int], Sequence[int]], int]]] = {
    "maslow_growth": ("maslow", LEVELS, larger_mean),
    "maslow_prepotency": ("maslow", LEVELS, more_basic),
    "plutchik_valence": ("emotion", VALENCES, larger_mean),
}
"""For each rule its theory of the data, the number of each label, and the comparison."""


def expected_action(dilemma: Dilemma, rule: str) -> str | None:
    """Return the action type that a rule expects; None where it does not decide.

    Args:
        dilemma: A dilemma.
        rule: `maslow_growth` (E1), `maslow_prepotency` (E2) or `plutchik_valence` (E3).

    Raises:
        InputError: There is no such rule.
    """
    if rule not in RULES:
        raise InputError(f"no rule {rule!r} of expected actions; {nearest(rule, RULES)}")
    theory, numbers, compare = RULES[rule]
    do, dont = (
        [numbers[label] for label in dilemma.action(kind).of(theory)] for kind in (TO_DO, NOT_TO_DO)
    )
    if not do or not dont:
        return None
    return {1: TO_DO, 0: None, -1: NOT_TO_DO}[compare(do, dont)]


def conflicts(dilemmas: Iterable[Dilemma], one: str, other: str) -> tuple[int, int]:
    """Return how many dilemmas two rules decide, and in how many they expect the same action."""
    both = [(expected_action(d, one), expected_action(d, other)) for d in dilemmas]
    decided = [pair for pair in both if None not in pair]
    return len(decided), sum(a == b for a, b in decided)
