"""Expected actions and their scores, on hand-made dilemmas and on the real ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from datamodules import DailyDilemmas
from zoo.errors import InputError
from zoo.methods.sova.expected import LEVELS, VALENCES, conflicts, expected_action
from zoo.methods.sova.metrics import (
    ExpectedRatio,
    ValuePreference,
    constant_choices,
    paired_difference,
)
from zoo.records import NOT_TO_DO, TO_DO, Action, Dilemma

REAL = Path(os.environ.get("ZOO_DATA", "")) / "daily_dilemmas"
real = pytest.mark.skipif(
    not os.environ.get("ZOO_DATA") or not REAL.is_dir(), reason="ZOO_DATA has no daily_dilemmas"
)
P, S, L, E, A = LEVELS


def dilemma(do: list[str], dont: list[str], theory: str = "maslow", name: str = "1") -> Dilemma:
    actions = (Action("a", "b", tuple(x), {theory: tuple(x)}) for x in (do, dont))
    return Dilemma("Should you?", *actions, id=name)


@pytest.fixture(scope="module")
def dilemmas() -> list[Dilemma]:
    return DailyDilemmas(str(REAL)).records("test")


@pytest.mark.parametrize(
    ("do", "dont", "growth", "prepotency"),
    [
        ([A], [S], TO_DO, NOT_TO_DO),
        ([S, A], [L], TO_DO, TO_DO),  # means 3.5 and 3, minima 2 and 3
        ([S, S, A], [S, E], None, TO_DO),  # means 3 and 3, one more at the lowest level
        ([S, L], [S, E], NOT_TO_DO, TO_DO),  # as many at the lowest level, the smaller mean
        ([P, ""], ["", P], None, None),
        ([P], [""], None, None),
        ([], [S], None, None),
    ],
)
def test_maslow(do, dont, growth, prepotency):
    assert expected_action(dilemma(do, dont), "maslow_growth") == growth
    assert expected_action(dilemma(do, dont), "maslow_prepotency") == prepotency


def test_valence():
    assert sum(VALENCES.values()) == 5 - 8
    assert [name for name, value in VALENCES.items() if value == 0] == ["submission"]
    pairs = [(["joy"], ["fear"], TO_DO), (["fear"], ["submission"], NOT_TO_DO)]
    for do, dont, expected in pairs:
        assert expected_action(dilemma(do, dont, "emotion"), "plutchik_valence") == expected
    assert expected_action(dilemma(["joy"], ["love"], "emotion"), "plutchik_valence") is None


def test_an_unknown_rule_names_the_nearest():
    with pytest.raises(InputError, match="maslow_growth"):
        expected_action(dilemma([A], [S]), "maslow_grow")


@real
@pytest.mark.fidelity("sova", 6)
@pytest.mark.parametrize(
    ("rule", "decisive", "always_do"),
    [
        ("maslow_growth", 1118, 0.561),
        ("maslow_prepotency", 1209, 0.466),
        ("plutchik_valence", 295, 0.688),
    ],
)
def test_counts_of_the_sheet(dilemmas, rule, decisive, always_do):
    score = ExpectedRatio(rule)
    values = score(dilemmas, constant_choices(TO_DO, 1360))
    name = f"expected_{rule}"
    assert values[f"{name}_decisive"] == decisive
    assert values[f"{name}_undecided"] == 1360 - decisive
    assert round(values[name], 3) == round(values[f"{name}_always_do"], 3) == always_do
    assert values[f"{name}_always_not"] == pytest.approx(1 - values[name])


@real
@pytest.mark.fidelity("sova", 6)
@pytest.mark.parametrize(
    ("one", "other", "decided", "percent"),
    [
        ("maslow_growth", "maslow_prepotency", 1118, 6.4),
        ("plutchik_valence", "maslow_growth", 250, 75.2),
        ("plutchik_valence", "maslow_prepotency", 266, 31.2),
    ],
)
def test_conflicts_of_the_sheet(dilemmas, one, other, decided, percent):
    both, same = conflicts(dilemmas, one, other)
    assert both == decided
    assert round(100 * same / both, 1) == percent
    if (one, other) == ("plutchik_valence", "maslow_prepotency"):
        assert both - same == 183


@real
@pytest.mark.fidelity("sova", 6)
@pytest.mark.parametrize("rule", ["maslow_growth", "maslow_prepotency", "plutchik_valence"])
def test_oracle_and_its_opposite(dilemmas, rule):
    flip = {TO_DO: NOT_TO_DO, NOT_TO_DO: TO_DO, None: None}
    oracle = [expected_action(d, rule) for d in dilemmas]
    name = f"expected_{rule}"
    assert ExpectedRatio(rule)(dilemmas, oracle)[name] == 1.0
    assert ExpectedRatio(rule)(dilemmas, [flip[c] for c in oracle])[name] == 0.0


@real
@pytest.mark.fidelity("daily_dilemmas", 6)
@pytest.mark.parametrize("theory", ["wvs", "mft", "virtue", "emotion", "maslow", "values"])
def test_preferences_of_opposite_policies_are_opposite(dilemmas, theory):
    do, dont = (
        ValuePreference(theory)(dilemmas, constant_choices(kind, 1360))
        for kind in (TO_DO, NOT_TO_DO)
    )
    assert do.keys() == dont.keys()
    assert {name: -value for name, value in dont.items()} == pytest.approx(do)


def test_preference_by_hand():
    pair = [dilemma(["Care", "Care"], ["Care", "Loyalty"], "mft", str(i)) for i in (1, 2)]
    values = ValuePreference("mft")([*pair, pair[0]], [TO_DO, TO_DO, None])
    assert values["preference_mft/Care"] == pytest.approx(100 * (4 - 2) / 6)
    assert values["preference_mft/Loyalty"] == -100.0
    assert values["preference_mft"] == pytest.approx((100 / 3 - 100) / 2)


def test_invalid_answers_are_counted_apart():
    four = [dilemma([A], [S], name=str(i)) for i in range(3)] + [dilemma([A], [A], name="3")]
    values = ExpectedRatio("maslow_growth")(four, [TO_DO, NOT_TO_DO, None, TO_DO])
    name = "expected_maslow_growth"
    assert values == {
        name: 0.5,
        f"{name}_decisive": 3,
        f"{name}_undecided": 1,
        f"{name}_invalid": 1,
        f"{name}_always_do": 1.0,
        f"{name}_always_not": 0.0,
        f"{name}/{A}": 0.5,
    }


def test_paired_difference():
    many = [dilemma([A], [S], name=str(i)) for i in range(200)]
    better = [TO_DO] * 150 + [NOT_TO_DO] * 50
    worse = [TO_DO] * 100 + [NOT_TO_DO] * 100
    found = paired_difference(many, better, worse, "maslow_growth")
    assert found["difference"] == 0.25
    assert 0.18 < found["low"] < 0.25 < found["high"] < 0.32
    assert found == paired_difference(many, better, worse, "maslow_growth")
    same = paired_difference(many, better, better, "maslow_growth")
    assert same["difference"] == same["low"] == same["high"] == 0.0
