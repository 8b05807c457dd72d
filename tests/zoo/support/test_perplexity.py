"""The likelihood of annotated replies: the whole prompt, run plainly, gives the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from dialogues import TALK

from zoo.methods.esc_baselines.recipes import RECIPES
from zoo.methods.fisminess.encoder import ALL
from zoo.methods.fisminess.machine import EMOTION, REPLY, STRATEGY, line
from zoo.records import Dialogue
from zoo.support.decisions import Decision, decisions
from zoo.support.reply import SupportReply

WIDE = {"max_length": 8192, "max_new_tokens": 5}


def direct(module: Any, state: Decision, one: SupportReply) -> tuple[str, str]:
    """Return what stands before the reply, and a space of the reply's."""
    encoder = module.encoder()
    task = RECIPES["direct"][0].task.format(**module.filled)
    return encoder.head(state) + "".join(encoder.lines(state)) + encoder.question(task), " "


def tagged(module: Any, state: Decision, one: SupportReply) -> tuple[str, str]:
    encoder = module.encoder()
    return encoder.head(state) + "".join(encoder.lines(state)) + encoder.question(), ""


def told(module: Any, state: Decision) -> str:
    encoder = module.encoder()
    return encoder.head(state) + "".join(encoder.before(state, encoder.rounds(state)))


def walked(module: Any, state: Decision, one: SupportReply) -> tuple[str, str]:
    labels = line(EMOTION, one.emotion) + line(STRATEGY, one.strategy)
    return told(module, state) + labels + module.encoder().questions[REPLY], " "


def in_one(module: Any, state: Decision, one: SupportReply) -> tuple[str, str]:
    begun = f"Emotion: {one.emotion}\nStrategy: {one.strategy}\nResponse:"
    return told(module, state) + module.encoder().questions[ALL] + begun, " "


@pytest.mark.parametrize("backbone", ["tiny-llama", "tiny-gemma"])
@pytest.mark.parametrize(
    ("method", "options", "prompt"),
    [
        ("ESCBaseline", {"reserve": 3000}, direct),
        ("CoCT", {"reserve": 3000}, tagged),
        ("FiSMiness", {"mode": "agent", "oracle_history": True}, walked),
        ("FiSMiness", {"mode": "single_pass", "oracle_history": True}, in_one),
    ],
)
def test_it_is_that_of_the_whole_text(
    make: Any,
    backbone: str,
    method: str,
    options: dict[str, Any],
    prompt: Callable[[Any, Decision, SupportReply], tuple[str, str]],
) -> None:
    """Two decisions together, of different lengths; random models write no tag and no field."""
    module = make(method, backbone, spread=3.0, **options, **WIDE)
    states = decisions(TALK)
    found = module.respond(states)
    nll, count = 0.0, 0
    for state, one in zip(states, found, strict=True):
        before, space = prompt(module, state, one)
        asked, gold = (module.encoder().ids(x) for x in (before, space + state.target.text))
        with torch.no_grad():
            logp = module.lm(torch.tensor([asked + gold])).logits[0].log_softmax(-1)
        own = -sum(float(logp[len(asked) + i - 1, token]) for i, token in enumerate(gold))
        assert (one.nll, one.tokens) == (pytest.approx(own, rel=1e-5), len(gold))
        nll, count = nll + own, count + len(gold)
    module.answers = {d.id: (d, one) for d, one in zip(states, found, strict=True)}
    assert module.score_answers([*module.answers.values()], "val")["perplexity"] == pytest.approx(
        math.exp(nll / count), rel=1e-5
    )


def test_it_follows_what_the_model_wrote_before_its_reply(make: Any) -> None:
    """A chain of thought stands before the annotated reply too; a plain reply needs no bracket."""
    from zoo.support.read_reply import read_reply

    module = make("ESCBaseline", "tiny-llama", kind="cot", reserve=3000, **WIDE)
    (state,) = decisions(TALK)[:1]
    words = " fear\nStrategy: Question\nResponse: Since when?"
    text, name, begun, given, _ = read_reply(words, module.labels, "Emotion:")
    assert given
    assert (begun + text, name) == (words, "Question")
    encoder = module.encoder()
    task = RECIPES["cot"][0].task.format(**module.filled)
    asked = encoder.head(state) + "".join(encoder.lines(state)) + encoder.question(task, "Emotion:")
    from zoo.support.conversation import conversation_context

    context = conversation_context(module, [state])
    ((nll, tokens),) = context.answer_nll(
        [encoder.question(task, "Emotion:")], [begun], [state.target.text]
    )
    ids, gold = (encoder.ids(x) for x in (asked + begun.rstrip(), " " + state.target.text))
    with torch.no_grad():
        logp = module.lm(torch.tensor([ids + gold])).logits[0].log_softmax(-1)
    own = -sum(float(logp[len(ids) + i - 1, token]) for i, token in enumerate(gold))
    assert (nll, tokens) == (pytest.approx(own, rel=1e-5), len(gold))


def test_what_has_no_reply_on_record_is_not_scored(make: Any) -> None:
    """In a chat nothing is known; an answer in several calls has no likelihood."""
    module = make("ESCBaseline", "tiny-llama", kind="sot", reserve=3000, **WIDE)
    state = decisions(TALK)[0]
    (one,) = module.respond([state])
    module.answers = {state.id: (state, one)}
    assert one.tokens == 0
    assert "perplexity" not in module.score_answers([*module.answers.values()], "val")
    asked = Dialogue(TALK.turns[:1], id="chat")
    for method in ("CoCT", "FiSMiness"):
        options = {"mode": "agent"} if method == "FiSMiness" else {"reserve": 3000}
        assert make(method, "tiny-llama", **options, **WIDE).respond([asked])[0].tokens == 0
