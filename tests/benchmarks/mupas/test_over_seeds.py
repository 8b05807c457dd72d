"""Differences by seed, checked by hand."""

from __future__ import annotations

from typing import Any

from scipy import stats

from benchmarks.mupas import over_seeds

SIZES = {"a": 1, "b": 3, "c": 4}


def entry(row: str, seed: int, values: dict[str, float], steps: int = 1) -> dict[str, Any]:
    score = "words_least"
    return {
        "row": row,
        "seed": seed,
        "steps": steps,
        "items": {score: values},
        "sizes": {score: SIZES},
    }


OURS = [entry("MuPaS", seed, {"a": 1.0, "b": 2.0, "c": 3.0 + seed}) for seed in (0, 1, 2)]
THEIRS = [entry("other", seed, {"a": 0.0, "b": 2.0, "c": 3.0}) for seed in (2, 1)]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_is_compared_in_the_seeds_that_both_have() -> None:
    """Seed 1: a +1, c +1, so 5/8 by tokens and 2/3 by scenes; seed 2: a +1, c +2: 9/8 and 1."""
    *_, line = over_seeds.by_seed(OURS, [("other", THEIRS)])
    row, score, listed, weighted, alike = cells(line)
    assert (row, score, listed) == ("other", "words_least", "+0.625, +1.125")
    half = stats.t.ppf(0.975, 1) * 0.25  # two values: their error is half their distance
    assert weighted == f"+0.875 ({0.875 - half:+.3f} to {0.875 + half:+.3f})"
    assert alike.startswith("+0.833 (")


def test_what_was_not_trained_stands_beside_every_seed() -> None:
    *_, line = over_seeds.by_seed(
        OURS, [("rule", [entry("rule", 0, THEIRS[0]["items"]["words_least"], 0)])]
    )
    assert cells(line)[2] == "+0.125, +0.625, +1.125"
    assert over_seeds.by_seed(OURS[:1], [("other", THEIRS)]) == []


def test_thirds_of_who_says_least() -> None:
    """Each scene is a third here, from who says one token to who says four."""
    lines = over_seeds.least(OURS, THEIRS)
    found = [cells(line)[:3] for line in lines[2:]]
    assert found == [
        ["1 to 1", "1", "+1.000, +1.000"],
        ["3 to 3", "1", "+0.000, +0.000"],
        ["4 to 4", "1", "+1.000, +2.000"],
    ]
    assert over_seeds.least(OURS, THEIRS[:1]) == []


def test_seeds_that_agree_have_no_width() -> None:
    assert over_seeds.over([0.5, 0.5]) == "+0.500 (+0.500 to +0.500)"
