"""straQ*'s responder: what its prompt says of the strategy, and does not know of the gold reply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import zoo
from datamodules import DailyDialog, ESConv
from zoo.errors import InputError, TooLongError
from zoo.methods.straq.responder import ReplyEncoder
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn, opened_by_seeker
from zoo.support.decisions import Decision, decisions
from zoo.support.labels import ACTS, STRATEGIES, SUPPORT
from zoo.tiny_models import byte_tokenizer

LOST = opened_by_seeker("I lost my job.")


def talk(reply: str = "When?") -> Dialogue:
    told = [
        *(Turn(SEEKER, "I lost my job."), Turn(SUPPORTER, "Oh.", strategy="Others")),
        *(Turn(SEEKER, "Yes."), Turn(SUPPORTER, reply, strategy="Question")),
    ]
    return Dialogue(tuple(told), id="talk:1")


def encoder(**options: Any) -> ReplyEncoder:
    return ReplyEncoder(byte_tokenizer(), think=None, speak=0, room=20, **options)


def told(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return a list that gets the prompts which responders are asked with, as text."""
    asked: list[list[str]] = []

    def answered(decoder: Any, made: Any, prompts: list[list[int]], **_: Any) -> list[Any]:
        asked.append([made.tokenizer.decode(ids) for ids in prompts])
        return [zoo.decoding.think_answer.Reply("", " So?")] * len(prompts)

    for room in ("straq.responder", "sft.module"):
        monkeypatch.setattr(f"zoo.methods.{room}.think_and_answer", answered)
    return asked


# -- what the prompt must not know -------------------------------------------------------------


def test_the_reply_on_record_moves_no_prompt() -> None:
    """A long gold reply makes room in training alone."""
    full = len(encoder().prompt(talk()))
    made = encoder(max_length=full + 40)
    long = talk("a" * 50)
    assert made.prompt(long) == made.prompt(talk()) == encoder().prompt(talk())
    assert made.query(decisions(long)[1], "Question") == replace(
        made.query(decisions(talk())[1], "Question"), answer="a" * 50
    )
    short = made.tokenizer.decode(encoder()(talk())[0].input_ids)
    assert "<|im_start|>user\nDialogue so far:\nSeeker: I lost my job.\n" in short
    assert short.endswith("assistant\nSupporter: Oh.<|im_end|>")
    (_, learned) = made(long)
    text = made.tokenizer.decode(learned.input_ids)
    assert "lost my job" not in text
    assert "a" * 50 in text


def test_a_last_turn_alone_too_long_is_refused() -> None:
    """Older turns give way; what is to be answered does not."""
    (opens, _) = decisions(talk())
    fits = encoder(max_length=len(encoder().prompt(talk())) + 40)
    with pytest.raises(TooLongError, match="the last turn with the question takes"):
        fits.query(replace(opens, turns=(replace(opens.turns[-1], text="a" * 2000),)), "Question")


# -- what it is told ---------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["Question", "Information"])
def test_the_prompt_names_the_strategy(
    make: Any, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """The planned one, not the one on record and not the first, with its definition."""
    asked = told(monkeypatch)
    module = make("StraQ", "tiny-llama", responder={"name": "tiny-qwen2"}, max_length=1700)
    assert module.responder.max_length == 1700
    states = decisions(talk())
    values = torch.zeros(2, 8)
    values[:, STRATEGIES.index(strategy)] = 1.0
    assert module.reply(states, module.plans(values)) == ["So?", "So?"]
    lm = module.responder._lm
    assert not lm.training
    assert not any(parameter.requires_grad for parameter in lm.parameters())
    module.reply(states)
    assert module.responder._lm is lm
    for text in asked[0]:
        assert f"Strategy: {strategy} ({SUPPORT.definitions[strategy]})." in text
        assert text.count("Strategy:") == 1
    assert "Seeker: I lost my job.\nSupporter: Oh.\nSeeker: Yes.\n" in asked[0][1]  # words alone


def test_replies_follow_the_plan(make: Any) -> None:
    """Of evaluation, `show` and chat alike; a second try follows the second best."""
    module = make("StraQ", "tiny-llama", spread=6.0)
    followed: list[str] = []

    def respond(states: list[Decision], names: list[str], _: Any) -> list[str]:
        followed.extend(names)
        return ["So?"] * len(states)

    module.responder = respond
    states = decisions(talk())
    planned = [plan.strategy for plan in module.plan(states)]
    assert planned != [state.target.strategy for state in states]
    module.answer(states)
    module.reply(states)
    assert followed == planned * 2
    values = module.plan([LOST])[0].values
    ranked = sorted(STRATEGIES, key=lambda name: -values[STRATEGIES.index(name)])
    for temperature, name in ((0.0, ranked[0]), (0.8, ranked[1])):
        _, continued = module.converse(LOST, temperature=temperature)
        assert followed[-1] == continued.turns[-1].strategy == name
    module.show([LOST], given="questions")
    assert followed[-1] == "Question"


def test_a_responder_alone_is_told_a_strategy(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The annotated one, else the given one; without any it says who plans."""
    asked = told(monkeypatch)
    module = make("StraQResponder", "tiny-llama", strategy="questions")
    module.validate()
    module.generate([replace(talk(), turns=talk().turns[:3])])  # thanks are not answered
    module.converse(LOST)
    module.show([], prompt="I lost my job.")
    module.show([replace(talk(), turns=talk().turns[:2])])
    names = ["Others", "Question", "Question", "Others"]
    for (text,), name in zip(asked, names, strict=True):
        assert f"Strategy: {name} (" in text
        assert "Dialogue so far:\nSeeker: I lost my job.\n" in text
    with pytest.raises(InputError, match=r"model\.strategy: nothing says .* let a planner choose"):
        make("StraQResponder", "tiny-llama").converse(LOST)
    with pytest.raises(InputError, match=r"model\.strategy: no support strategy 'Hug'; one of"):
        make("StraQResponder", "tiny-llama", strategy="Hug").validate()


def test_acts_of_daily_dialog(make: Any) -> None:
    module = make("StraQResponder", "tiny-llama", labels="acts", max_length=10**5)
    made = module.encoder()
    for record in DailyDialog().records("train"):
        for decision, example in zip(decisions(record, ACTS), made(record), strict=True):
            act = decision.target.strategy
            assert f"Strategy: {act} ({ACTS.definitions[act]})" in made.tokenizer.decode(
                example.input_ids
            )
    with pytest.raises(InputError, match="no dialogue act 'Others'|no dialogue act 'Question'"):
        made(ESConv().records("train")[0])
