"""The lookup table by hand, and the fewer decisions, the noisier the bias."""

from __future__ import annotations

import pytest

from benchmarks.support import lookup
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import decisions


def talk(*strategies: str) -> Dialogue:
    said = ((Turn(SEEKER, "I."), Turn(SUPPORTER, "You.", strategy=name)) for name in strategies)
    return Dialogue(tuple(turn for pair in said for turn in pair), id="talk")


TAUGHT = [  # Others follows Question at once, Information follows it later and more often
    point
    for told in (
        *(talk("Question", "Others"),) * 2,
        talk("Question", "Question", "Information", "Question", "Information"),
        talk("Others", "Question", "Information"),
    )
    for point in decisions(told)
]


@pytest.mark.parametrize(
    ("row", "plans"),
    [
        ("last strategy x turn depth", ["Question", "Others", "Information", "Question"]),
        ("last strategy", ["Question", "Information", "Information", "Question"]),
        ("most frequent strategy", ["Question"] * 4),
    ],
)
def test_what_was_used_most_after_the_same(row: str, plans: list[str]) -> None:
    """Where no training dialogue is as long, or had this before, less of it counts."""
    asked = decisions(talk("Question", "Others"))
    asked.append(decisions(talk(*["Question"] * 9))[-1])
    asked.append(decisions(talk("Self-disclosure", "Question"))[-1])
    assert lookup.look_up(row, TAUGHT, asked) == plans


def test_bias_of_few_decisions_is_noise() -> None:
    few, many = (lookup.noise(TAUGHT * 40, size) for size in (10, 300))
    assert float(few[2]) > 20 > float(many[2])
