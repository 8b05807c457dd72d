"""Names of the two actions in a model's words."""

from __future__ import annotations

import pytest

from zoo.methods.sova.json_answer import ACTION_NAME
from zoo.methods.sova.principles import corpus

NAMES = [
    "to do what the question asks about",
    "action 2",
    "Action1",
    "Action #1",
    "Action-1",
    "action:2",
    "Action_2",
    "**Action** 1",
    'Action "2"',
    "Action (1)",
    "Action No. 1",
    "action number 2",
    "Action number one",
    "actions 1 and 2",
    "action one",
    "Action Two",
    "action two because it is kind",
    "action one is right",
    "the first action",
    "The  second action",
    "the 2nd action",
    "the first of the two actions",
]
ORDINARY = [
    "take action",
    "Take action. Ask for help",
    "a class action in 1990",
    "action 1990",
    "action 12",
    "transaction 1",
    "inaction, two",
    "take action one step at a time",
    "ask what action one can take",
    "the action one's conscience asks for",
    "take action two days before",
    "make an apology your first action",
    "a second action",
    "an action plan with 2 parts",
    "first, act",
]


@pytest.mark.parametrize("words", NAMES)
def test_a_name_is_found_in_a_sentence(words: str) -> None:
    assert ACTION_NAME.search(words)
    assert ACTION_NAME.search(f"When a friend asks, choose {words}.")
    assert ACTION_NAME.search(f"({words}) it is")


@pytest.mark.parametrize("words", ORDINARY)
def test_ordinary_words_are_no_name(words: str) -> None:
    assert not ACTION_NAME.search(words)
    assert not ACTION_NAME.search(f"When a friend asks, {words}.")


def test_no_curated_principle_names_an_action() -> None:
    assert not [item for item in corpus() if ACTION_NAME.search(f"{item.statement} {item.rule}")]
