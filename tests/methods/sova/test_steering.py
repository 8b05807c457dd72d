"""What steers the agent: the role of its theory, the grade, the order of actions, a free window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from methods.sova.graph_parts import GIVEN

from zoo.methods.sova import prompts, replies
from zoo.methods.sova.expected import expected_action
from zoo.methods.sova.kinds import Theory
from zoo.records import NOT_TO_DO, TO_DO, Dialogue, Dilemma


@pytest.mark.parametrize("theory", get_args(Theory))
def test_the_role_is_that_of_the_theory(make: Any, theory: str, dialogue: Dialogue) -> None:
    """And of no other one, also where the instructions are those of another."""
    for kind in ("sova", "wrong_theory"):
        module = make("SoVA", "tiny-llama", kind=kind, theory=theory, max_length=8192)
        heads = [
            module.head("Do you?", GIVEN),
            replies.prompt(module.encoder(), dialogue, GIVEN, module.theory, 8),
        ]
        for head in heads:
            text = module.tokenizer.decode(head)
            assert [name for name in get_args(Theory) if prompts.role(name) in text] == [theory]


def test_steerlm_asks_for_the_highest_grade(make: Any) -> None:
    module = make("SoVA", "tiny-llama", kind="steerlm", max_length=8192)
    assert "human values 4 of 4" in module.tokenizer.decode(module.head("Do you?", []))


def test_sft_learns_both_orders_of_the_actions(make: Any, dilemmas: list[Dilemma]) -> None:
    """One for each dilemma, always the same; the answer is the expected action in that order."""
    encoder = make("SoVA", "tiny-llama", kind="sft", max_length=8192).encoder()
    record = next(d for d in dilemmas if expected_action(d, "maslow_growth"))
    expected = expected_action(record, "maslow_growth")
    firsts = []
    for number in range(24):
        (example,) = encoder(replace(record, situation=f"Do you do {number}?"))
        text = encoder.tokenizer.decode(example.input_ids)
        (order,) = [o for o in prompts.ORDERS if prompts.choices(o) in text]
        answer = encoder.tokenizer.decode([i for i in example.labels if i >= 0])
        assert answer.startswith(prompts.OPTIONS[order.index(expected)])
        firsts.append(order[0])
    assert set(firsts) == {TO_DO, NOT_TO_DO}


@pytest.mark.parametrize("room", [1, 48])
def test_room_for_the_reply_stays_free(make: Any, dialogue: Dialogue, room: int) -> None:
    """A window that holds all turns and the reply keeps them; one token less, and one goes."""

    def prompt(window: int) -> list[int]:
        encoder = make("SoVA", "tiny-llama", max_length=window).encoder()
        return replies.prompt(encoder, dialogue, GIVEN, "maslow", room)

    whole = prompt(8192)
    assert prompt(len(whole) + room) == whole
    assert len(prompt(len(whole) + room - 1)) < len(whole)
