"""What steers the agent: the role of its theory, the grade, the order of actions, a free window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
from methods.sova.graph_parts import GIVEN

import zoo
from zoo.decoding.depth_decoder import DepthDecoder
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
            replies.prompt(module.encoder(), dialogue, *module.steer(GIVEN), 8),
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
        module = make("SoVA", "tiny-llama", max_length=window)
        return replies.prompt(module.encoder(), dialogue, *module.steer(GIVEN), room)

    whole = prompt(8192)
    assert prompt(len(whole) + room) == whole
    assert len(prompt(len(whole) + room - 1)) < len(whole)


class Sage(zoo.SoVA):
    """Steers in its own way."""

    def steer(self, instructions: Any) -> tuple[str, str]:
        return "You are a sage.", f"Told: {[getattr(i, 'text', i) for i in instructions]}. "


@pytest.mark.parametrize("kind", ["sova", "rag"])
def test_a_subclass_steers_every_prompt_in_one_place(
    kind: str, dilemmas: list[Dilemma], dialogue: Dialogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of dilemmas, of replies in conversations, and of plain retrieval."""
    options = {"max_length": 16384, "read_text": False, "max_reply_tokens": 2, "threshold": 1.0}
    module = Sage(zoo.Backbone("tiny-llama"), kind=kind, **options)
    module.configure_model()
    module.eval()
    seen: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        use = getattr(DepthDecoder, name)

        def read(decoder: Any, ids: Any, *rest: Any) -> Any:
            rows = ids if isinstance(ids[0], list) else [ids]
            seen.append("".join(map(module.tokenizer.decode, rows)))
            return use(decoder, ids, *rest)

        return read

    for name in ("open", "open_alike", "feed"):  # of the decoder: all that the model reads
        monkeypatch.setattr(DepthDecoder, name, noted(name))
    for record in [dilemmas[0], dialogue] if kind == "sova" else dilemmas[:1]:
        seen.clear()
        (answer,) = module.generate([record])
        text = "".join(seen)
        assert "You are a sage." in text
        assert "Told: [" in text
        assert not any(prompts.role(name) in text for name in get_args(Theory))
        told = [item.text for item in answer.instructions]
        if kind == "rag":
            (told,) = module.retrieval.principles_near([record.situation], module.chunk_tokens)
        assert told
        assert all(repr(item) in text for item in told)


@pytest.mark.parametrize("kind", sorted(prompts.REASONING))
def test_a_request_for_reasoning_stays_beside_given_instructions(make: Any, kind: str) -> None:
    module = make("SoVA", "tiny-llama", kind=kind, max_length=8192)
    text = module.tokenizer.decode(module.head("Do you?", GIVEN))
    assert prompts.REASONING[kind] in text
    assert prompts.steering(GIVEN) in text
