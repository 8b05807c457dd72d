"""Two properties of SoVA's sheet are results of agents. As measured, they do not hold.

The expected failures are strict: rows in which a property holds end them.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

RESULTS = Path(__file__).parents[3] / "benchmarks/results/sova-dilemmas-2026-11-30.json"
PAGE = "benchmarks/results/2026-11-30-sova.md"
FEW_POINTS = 0.03


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    return {entry["row"]: entry for entry in json.loads(RESULTS.read_text())}


def ratio(row: dict[str, Any], rule: str, order: int) -> float:
    """Return the share of expected actions that a row takes in one order of the actions."""
    right = []
    for name, by_both in row["items"][rule].items():
        odds = row["odds"][name]
        expected = (sum(odds) > 0) == bool(by_both)  # whether `to do` is
        right.append((odds[order] > 0) == expected)
    return mean(right)


def test_the_ratio_of_an_order_is_that_of_its_own_odds() -> None:
    odds = {"a": [1.0, -2.0], "b": [-1.0, 2.0], "c": [1.0, 1.0]}
    row = {"odds": odds, "items": {"rule": {"a": 1, "b": 1, "c": 0}}}
    assert ratio(row, "rule", 0) == 0  # expected: not, do, not
    assert ratio(row, "rule", 1) == pytest.approx(2 / 3)


@pytest.mark.xfail(strict=True, reason=f"0.5B: SoVA is not above plain retrieval; {PAGE}")
@pytest.mark.fidelity("sova", 8)
@pytest.mark.parametrize(
    ("row", "rule"), [("SoVA, Maslow", "maslow_growth"), ("SoVA, Plutchik", "plutchik_valence")]
)
def test_instructions_help_more_than_pasted_principles(
    row: str, rule: str, rows: dict[str, Any]
) -> None:
    """SoVA >= plain RAG >= direct, on the same decisive dilemmas."""
    names = rows[row]["items"][rule]
    steered, pasted, direct = (
        mean(rows[name]["items"][rule][i] for i in names) for name in (row, "plain RAG", "direct")
    )
    assert steered >= pasted >= direct


@pytest.mark.xfail(strict=True, reason=f"0.5B takes Action 1 whatever it is; {PAGE}")
@pytest.mark.fidelity("sova", 9)
@pytest.mark.parametrize("row", ["direct", "SoVA, Maslow"])
def test_the_order_of_the_actions_changes_the_ratio_little(row: str, rows: dict[str, Any]) -> None:
    both = [ratio(rows[row], "maslow_growth", order) for order in (0, 1)]
    assert abs(both[0] - both[1]) < FEW_POINTS
