"""A chat with FiSMiness: what it decoded of a message stays with the message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from zoo.decoding.shared_context import SharedContext
from zoo.methods.fisminess.conversations import TurnAnswer
from zoo.methods.fisminess.machine import with_seeker_emotion
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.encoder import SPEAKS

TALK = Dialogue((Turn(SEEKER, "Hi."), Turn(SUPPORTER, "Hello."), Turn(SEEKER, "I lost my job.")))


def test_the_emotion_is_that_of_the_last_message() -> None:
    """It is written on the seeker's last turn; all others stay, before it and behind it."""
    turns = (*TALK.turns, Turn(SUPPORTER, "Oh."))
    wanted = (*turns[:2], Turn(SEEKER, "I lost my job.", emotion="sadness"), turns[3])
    assert with_seeker_emotion(turns, "sadness") == wanted
    assert with_seeker_emotion(turns[1:2], "sadness") == turns[1:2], "nobody speaks of himself"


def test_a_chat_keeps_what_was_decoded(make: Any) -> None:
    module = make("FiSMiness", "tiny-llama", max_length=8192, max_new_tokens=4)
    notes, told = module.converse(TALK)
    assert [turn.text for turn in told.turns[:3]] == [turn.text for turn in TALK.turns]
    assert [turn.emotion for turn in told.turns] == ["", "", notes["emotion"], ""]
    assert notes["emotion"] in module.emotions.names
    assert told.turns[3].strategy in module.labels.names


@pytest.mark.fidelity("fisminess", 3)
@pytest.mark.parametrize("kept", [0, 1])
def test_the_history_holds_the_labels_of_the_try_that_was_kept(
    make: Any, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """h(t + 1) = s3(t), equation (3), also where a turn was answered again."""
    module = make("FiSMiness", "tiny-llama", mode="single_pass", max_length=8192, max_new_tokens=4)
    tries = [("fear", "Question", "Why?"), ("anger", "Information", "It passes.")]
    said = [f"Emotion: {e}\nStrategy: {g}\nResponse: {u}" for e, g, u in (*tries, *tries[:1])]
    told: list[str] = []

    def ask(context: SharedContext, questions: Any, **_: Any) -> list[str]:
        told.append(context.tokenizer.decode([t for piece in context.pieces[0] for t in piece]))
        return [said.pop(0)]

    monkeypatch.setattr(SharedContext, "ask", ask)
    begun = Dialogue((Turn(SEEKER, "I lost my job."),))
    answered = [module.converse(begun, temperature=t)[1] for t in (0.0, 0.8)][kept]
    module.converse(replace(answered, turns=(*answered.turns, Turn(SEEKER, "Thanks."))))
    emotion, strategy, reply = tries[kept]
    s3 = f"Emotion: {emotion}\nStrategy: {strategy}\nSupporter: {reply}\n"
    assert told[-1] == f"Seeker: I lost my job.\n{s3}Seeker: Thanks.\n"


def test_a_reply_that_was_not_scored_adds_nothing_to_the_perplexity() -> None:
    reply = TurnAnswer({"emotion": "fear", "strategy": "Question"}, reply="Why?").as_reply(calls=3)
    assert (reply.nll, reply.tokens, reply.calls) == (0.0, 0, 3)


def test_every_question_ends_where_the_assistant_speaks(make: Any) -> None:
    """The user's turn is closed and the assistant's opened; a reply goes on from its field."""
    encoder = make("FiSMiness", "tiny-llama", max_length=8192).encoder()
    assert set(encoder.questions) == {"emotion", "strategy", "reply", "all"}
    for task, question in encoder.questions.items():
        closed, _, spoken = question.rpartition("<|im_end|>\n<|im_start|>assistant\n")
        assert closed.startswith("\n")
        assert spoken == (SPEAKS if task == "reply" else "")
