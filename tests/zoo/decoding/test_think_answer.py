"""Replies: thought first, answer second; the thought can be edited or left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from zoo.decoding.depth_decoder import DepthDecoder
from zoo.records import Dialogue, Triple


@pytest.fixture
def module(make: Callable[..., Any], shape: str) -> Any:
    """A random MeTHanol."""
    return make("MeTHanol", shape, spread=12.0, max_thought_tokens=6, max_answer_tokens=6)


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str]]]:
    """Level and text of everything that is fed by hand."""
    from zoo.tiny_models import byte_tokenizer

    calls: list[tuple[int, list[str]]] = []
    feed = DepthDecoder.feed

    def recorded(self: DepthDecoder, ids: Any, level: int) -> None:
        calls.append((level, [byte_tokenizer().decode(row) for row in ids]))
        feed(self, ids, level)

    monkeypatch.setattr(DepthDecoder, "feed", recorded)
    return calls


ASK = "\n<|im_start|>user\n{}<|im_end|>"
START = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>"
OPEN = "\n<|im_start|>assistant\n"


def test_a_decoded_thought(module: Any, fed: list[Any], triples: list[Triple]) -> None:
    replies = module.generate(triples[:1])
    think = "\n<|im_start|>thought\n"
    assert fed == [(0, [START + ASK.format(triples[0].query) + think]), (1, [OPEN])]
    assert len(replies) == 1


def test_edited_and_empty_thoughts_in_one_batch(
    module: Any, fed: list[Any], triples: list[Triple]
) -> None:
    replies = module.generate([triples[0], triples[3]], thoughts=["My own.", ""])
    texts = [
        START + ASK.format(triples[0].query) + "\n<|im_start|>thought\nMy own.<|im_end|>" + OPEN,
        START + ASK.format(triples[3].query) + OPEN,  # no thought, no thought turn
    ]
    assert fed == [(1, texts)]
    assert [reply.thought for reply in replies] == ["My own.", ""]


def test_an_edited_thought_is_what_the_answer_is_given(module: Any, triples: list[Triple]) -> None:
    """The answer is that of a plain forward over prompt, given thought and answer header."""
    (reply,) = module.generate(triples[:1], thoughts=["My own."])
    text = START + ASK.format(triples[0].query)
    text += f"\n<|im_start|>thought\nMy own.<|im_end|>{OPEN}"
    ids = module.tokenizer(text, add_special_tokens=False).input_ids
    new: list[int] = []
    with torch.no_grad():
        while len(new) < module.max_answer_tokens:
            token = int(module.lm(torch.tensor([[*ids, *new]])).logits[0, -1].argmax())
            if token == module.encoder().stop_id:
                break
            new.append(token)
    assert reply.thought == "My own."
    assert reply.answer == module.tokenizer.decode(new, skip_special_tokens=True).strip()


def test_a_dialogue_is_answered_at_its_last_supporter_turn(
    module: Any, fed: list[Any], dialogue: Dialogue
) -> None:
    module.generate([dialogue])
    text = fed[0][1][0]
    assert text.endswith(ASK.format("Last week.") + "\n<|im_start|>thought\n")
    assert "You will find one." not in text
    assert "When?" in text


def test_batch_equals_one_by_one(module: Any, triples: list[Triple], dialogue: Dialogue) -> None:
    records = [*triples, dialogue]
    together = module.generate(records)
    assert together == [module.generate([record])[0] for record in records]


@pytest.mark.parametrize("learn", [True, False])
def test_sft_replies_with_and_without_thought(
    make: Callable[..., Any], fed: list[Any], triples: list[Triple], learn: bool
) -> None:
    sft = make(
        "SFT",
        "tiny-llama",
        spread=12.0,
        learn_thought=learn,
        max_thought_tokens=4,
        max_answer_tokens=4,
    )
    (reply,) = sft.generate(triples[:1])
    question = START + ASK.format(triples[0].query)
    if learn:
        assert fed == [(0, [question + "\n<|im_start|>thought\n"]), (0, [OPEN])]
    else:
        assert fed == [(0, [question + OPEN])]
        assert reply.thought == ""


def test_generate_is_the_same_in_training_mode(
    make: Callable[..., Any], triples: list[Triple]
) -> None:
    """A module fresh from training, blocks recomputed, replies as in evaluation mode."""
    options = {"backbone": {"gradient_checkpointing": True}}
    module = make(
        "MeTHanol", "tiny-llama", spread=12.0, max_thought_tokens=6, max_answer_tokens=6, **options
    )
    expected = module.generate(triples)
    module.train()
    assert module.generate(triples) == expected
    assert module.training


def test_reply_text_has_no_special_tokens(module: Any, triples: list[Triple]) -> None:
    for reply in module.generate(triples):
        for text in (reply.thought, reply.answer):
            assert "<|" not in text
            assert text == text.strip()
