"""Strategy scores beyond the fidelity properties: labels, depth, transitions."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.support.labels import ACTS, STAGES, STRATEGIES
from zoo.support.metrics import SupportAnswer, support_scores
from zoo.support.strategy_metrics import (
    accuracy,
    bias,
    count_pairs,
    depth_bins,
    in_stages,
    parse_labels,
    preferences,
    strategy_scores,
    transitions,
    upper_mass,
)


def test_unreadable_predictions_count_as_others() -> None:
    words = ["Question", "questions", "I would ask: a Question", "no idea", ""]
    assert parse_labels(words) == (["Question"] * 3 + ["Others"] * 2, 0.4)
    assert parse_labels([]) == ([], 0.0)
    assert parse_labels(["Question!", "hm"], ACTS) == (["question", "inform"], 0.5)


def test_rows_are_gold_and_columns_predictions() -> None:
    counts = count_pairs(["Question", "Question", "Others"], ["Others", "Question", "Others"])
    assert counts[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
    assert counts[7].tolist() == [0, 0, 0, 0, 0, 0, 0, 1]
    assert count_pairs(["inform"], ["directive"], ACTS.names)[0, 2] == 1
    with pytest.raises(ValueError, match="no strategy 'question'"):
        count_pairs(["Question"], ["question"])
    with pytest.raises(ValueError, match="shorter"):
        count_pairs(["Question"], [])


def test_preferences_sum_to_the_number_of_strategies() -> None:
    tables = np.random.default_rng(0).integers(0, 9, (5, 4, 4)).astype(float)
    assert preferences(tables).sum(-1) == pytest.approx(np.full(5, 4.0))
    assert (preferences(tables) > 0).all()


def test_who_is_said_more_is_preferred() -> None:
    counts = np.array([[5.0, 4.0, 1.0], [2.0, 5.0, 1.0], [2.0, 4.0, 5.0]])
    p = preferences(counts)
    assert p[1] > p[0] > p[2]
    assert bias(counts) > 0


def test_a_table_is_left_as_it_was() -> None:
    counts = np.zeros((3, 3))
    bias(counts)
    assert not counts.any()


def test_empty_tables_score_zero() -> None:
    assert all(value == 0 for value in strategy_scores(np.zeros((8, 8))).values())


def test_breakdown_by_depth() -> None:
    gold = ["Question", "Question", "Others", "Others"]
    found = ["Question", "Question", "Question", "Others"]

    def scores(depths: list[int], bins: dict[str, tuple[int, int | None]]) -> dict[str, float]:
        rows = zip(depths, gold, found, strict=True)
        answers = [
            SupportAnswer("d", depth, right, "hi", name, "hi") for depth, right, name in rows
        ]
        return support_scores(answers, bins=bins, draws=0)

    by_half = scores([0, 6, 7, 20], depth_bins(7))
    assert by_half["early/accuracy"] == 100
    assert by_half["late/accuracy"] == 50
    assert by_half["late/proficiency"] == pytest.approx(100 * (2 / 3) / 8)
    filled = {name.split("/")[0] for name in scores([0, 1, 2, 3], depth_bins(2, 9)) if "/" in name}
    assert filled == {"0-1", "2-8"}
    assert depth_bins(5, 10) == {"0-4": (0, 5), "5-9": (5, 10), "10+": (10, None)}


def test_transitions_are_within_a_chain() -> None:
    chains = [["Question", "Question", "Information"], ["Question", "Others"], ["Others"], []]
    counts = transitions(chains, rows=False)
    assert counts.sum() == 3
    assert (counts[0, 0], counts[0, 6], counts[0, 7]) == (1, 1, 1)
    table = transitions(chains)
    assert table[0].tolist() == pytest.approx([1 / 3, 0, 0, 0, 0, 0, 1 / 3, 1 / 3])
    assert not table[1:].any()


def test_transitions_by_stage() -> None:
    names = in_stages()
    assert [STAGES[name] for name in names] == [1, 1, 2, 2, 2, 3, 3]
    assert set(names) == set(STRATEGIES) - {"Others"}
    onward = ["Question", "Reflection of feelings", "Providing Suggestions"]
    table = transitions([onward], names)
    assert upper_mass(table) == 1
    assert upper_mass(transitions([onward[::-1]], names)) == 0
    assert upper_mass(transitions([[*onward, "Question"]], names, rows=False)) == 2 / 3
    # Others stands between two and joins nothing; the same strategy again moves nowhere
    assert not transitions([["Question", "Others", "Information"]], names).any()
    assert upper_mass(transitions([["Question", "Question"]], names)) == 0


def test_accuracy_of_many_tables() -> None:
    tables = np.stack([np.eye(3), np.ones((3, 3))])
    assert accuracy(tables).tolist() == pytest.approx([1, 1 / 3])
