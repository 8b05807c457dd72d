"""FiSMiness with a given strategy: the reply follows it, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods.fisminess.fisminess_reference import ONE, TWO, WIDE, triples

from zoo.decoding.shared_context import SharedContext
from zoo.support.decisions import decisions
from zoo.support.labels import STRATEGIES, SUPPORT
from zoo.support.read_reply import read_reply


@pytest.mark.fidelity("fisminess", 8)
@pytest.mark.parametrize("two", TWO)
def test_a_given_strategy_changes_the_reply_alone(make: Any, two: str) -> None:
    module = make("FiSMiness", two, spread=12.0, **{**WIDE, "max_new_tokens": 8})
    state = decisions(ONE)[:1]
    plain = module.respond(state)[0]
    replies = set()
    for name in STRATEGIES[:4]:
        forced = module.respond(state, strategies=[name])[0]
        assert (forced.emotion, forced.strategy) == (plain.emotion, name)
        assert forced.reply == plain.reply or name != plain.strategy
        replies.add(forced.reply)
    assert len(replies) > 1
    assert module.respond(state)[0] == plain


@pytest.mark.fidelity("fisminess", 8)
@pytest.mark.parametrize("two", TWO)
def test_a_single_pass_writes_by_a_given_strategy(make: Any, two: str, monkeypatch: Any) -> None:
    """The emotion is the one it names; the reply goes on from the fields with that strategy."""
    module = make("FiSMiness", two, mode="single_pass", spread=12.0, **WIDE)
    state = decisions(ONE)[:1]
    asked: list[str] = []
    original = SharedContext.ask

    def ask(context: SharedContext, questions: Any, **options: Any) -> list[str]:
        asked.append(questions[0])
        words = original(context, questions, **options)
        return (
            [f"Emotion: fear\nStrategy: Others\nResponse: {words[0]}"] if len(asked) == 1 else words
        )

    monkeypatch.setattr(SharedContext, "ask", ask)
    (one,) = module.respond(state, strategies=["Information"])
    begun = "Emotion: fear\nStrategy: Information\nResponse:"
    assert asked[1] == asked[0] + begun
    assert (one.emotion, one.strategy, one.calls) == ("fear", "Information", 2)
    encoder = module.encoder()
    told = "".join(encoder.before(state[0], encoder.rounds(state[0])))
    ids = encoder.ids(encoder.head(state[0]) + told + asked[1])
    with torch.no_grad():
        for _ in range(WIDE["max_new_tokens"]):
            ids.append(int(module.lm(torch.tensor([ids])).logits[0, -1].argmax()))
    words = module.tokenizer.decode(ids[-WIDE["max_new_tokens"] :], skip_special_tokens=True)
    assert one.reply == read_reply(words, SUPPORT).reply


@pytest.mark.fidelity("fisminess", 8)
def test_each_of_equal_states_follows_its_own_strategy(make: Any) -> None:
    """Eight strategies for one state at once, and one for an early state that leaves later ones."""
    module = make("FiSMiness", "tiny-llama", spread=12.0, **{**WIDE, "max_new_tokens": 8})
    first, last = decisions(ONE)[0], decisions(ONE)[-1]
    alone = [module.respond([first], strategies=[name])[0] for name in STRATEGIES]
    together = module.respond([first] * 8, strategies=STRATEGIES)
    assert [one.strategy for one in together] == list(STRATEGIES)
    assert [one.reply for one in together] == [one.reply for one in alone]
    for name in STRATEGIES[:3]:
        pair = module.respond([first, last], strategies=[name, "Question"])
        assert triples(pair[1:]) == triples(module.respond([last], strategies=["Question"]))
