"""FiSMiness' walk: which questions are asked at all, what is shared, what is shown of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from dialogues import TALK

from zoo.decoding.shared_context import SharedContext
from zoo.errors import TooLongError
from zoo.methods.fisminess.conversations import TurnAnswer, group, passes
from zoo.methods.fisminess.encoder import answer_start, lists, tasks
from zoo.methods.fisminess.machine import Machine, opening, rounds
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import current_decision, decisions
from zoo.support.labels import EMOTION_SETS, LABEL_TOKENS, SUPPORT

WIDE = {"max_length": 8192, "max_new_tokens": 4}


class Counted:
    """Counts the questions to the model, by the end of the task."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, words: str = "Others") -> None:
        self.limits: list[int] = []
        self.heat: list[float] = []

        def ask(
            context: SharedContext,
            questions: Any,
            *,
            max_new_tokens: int,
            temperature: float = 0.0,
            **_: Any,
        ) -> list[str]:
            self.limits.append(max_new_tokens)
            self.heat.append(temperature)
            return [words if question else "" for question in questions]

        monkeypatch.setattr(SharedContext, "ask", ask)


def test_labels_that_are_known_are_not_asked_again(make: Any, monkeypatch: Any) -> None:
    """The second walk asks for the new turn alone; after an evaluation began anew for both."""
    module = make("FiSMiness", "tiny-llama", closed="free", **WIDE)
    counted = Counted(monkeypatch)
    module.respond(decisions(TALK)[:1])
    assert len(counted.limits) == 3
    module.respond(decisions(TALK)[1:])
    assert len(counted.limits) == 6
    module.respond(decisions(TALK)[1:])  # its own labels are decided anew, the reply too
    assert len(counted.limits) == 9
    module.known = {}
    module.respond(decisions(TALK)[1:])
    assert len(counted.limits) == 9 + 2 + 3  # the labels of the first turn, but no reply to it


def test_labels_of_other_weights_are_not_kept(make: Any) -> None:
    """After weights were written over, every history is what these weights decode, (3) and (4)."""
    module = make("FiSMiness", "tiny-llama", spread=12.0, **WIDE)
    fresh = make("FiSMiness", "tiny-llama", **WIDE)
    histories = set()
    for seed in range(4):
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in module.lm.parameters():
                if parameter.dim() > 1:
                    parameter.copy_(torch.randn_like(parameter))
        fresh.load_state_dict(module.state_dict())
        fresh.known = {}
        last = decisions(TALK)[-1:]
        assert module.respond(last) == fresh.respond(last)
        assert module.known == fresh.known
        histories.add(next(iter(fresh.known.values())))
    assert len(histories) > 1, "the weights decode different labels of the first turn"


def test_an_evaluation_forgets_the_labels_before_it(make: Any, monkeypatch: Any) -> None:
    module = make("FiSMiness", "tiny-llama", closed="free", **WIDE)
    counted = Counted(monkeypatch)
    module.respond(decisions(TALK)[:1])
    module.start_evaluation()
    module.respond(decisions(TALK)[1:])
    assert len(counted.limits) == 3 + 2 + 3, "the labels of the first turn are asked for again"


def test_annotated_labels_are_not_asked(make: Any, monkeypatch: Any) -> None:
    module = make("FiSMiness", "tiny-llama", closed="free", oracle_history=True, **WIDE)
    counted = Counted(monkeypatch)
    module.respond(decisions(TALK)[1:])
    assert len(counted.limits) == 3


@pytest.mark.parametrize("mode", ["mt", "single_pass"])
def test_limits_and_temperature_of_the_questions(make: Any, monkeypatch: Any, mode: str) -> None:
    """Labels are short and greedy; a single pass has room for its fields, and is one sample."""
    module = make("FiSMiness", "tiny-llama", mode=mode, closed="free", temperature=0.7, **WIDE)
    counted = Counted(monkeypatch)
    module.respond(decisions(TALK)[:1])
    if mode == "mt":
        assert counted.limits == [LABEL_TOKENS, LABEL_TOKENS, 4]
        assert counted.heat == [0.0, 0.0, 0.7]
    else:
        assert counted.limits == [4 + 3 * LABEL_TOKENS]
        assert counted.heat == [0.7]
    assert module.encoder().room == module.encoder().asking + counted.limits[-1] + 1


def test_decisions_of_one_dialogue_share_a_conversation(make: Any) -> None:
    """The longest is walked, the others are asked on the way; apart each has its own."""
    encoder = make("FiSMiness", "tiny-llama", **WIDE).encoder()
    first, second = decisions(TALK)
    other = replace(first, dialogue="talk:2")
    (shared, alone) = group([first, second, other, first], encoder)
    assert shared.last == second
    assert shared.asked == {0: [0, 3], 1: [1]}
    assert (alone.last, alone.asked) == (other, {0: [2]})
    apart = group([first, second, first], encoder, apart=True)
    assert sorted(index for c in apart for rows in c.asked.values() for index in rows) == [0, 1, 2]
    assert len(apart) == 3


def test_what_a_dialogue_passes() -> None:
    """The same turns, followed by the same reply if there is one, in the same situation."""
    first, second = decisions(TALK)
    assert passes(second, first)
    assert passes(second, second)
    assert passes(second, replace(first, target=Turn(SUPPORTER, "")))
    assert not passes(second, replace(first, target=Turn(SUPPORTER, "So?")))
    for name in ("dialogue", "situation", "problem"):
        assert not passes(second, replace(first, **{name: "other"}))
    assert not passes(second, replace(first, turns=(Turn(SEEKER, "I won."),)))
    asked = current_decision(Dialogue(TALK.turns[:1], id="talk:1"))
    seeker_goes_on = decisions(Dialogue((TALK.turns[0], *TALK.turns[2:]), id="talk:1"))[0]
    assert not passes(seeker_goes_on, asked), "there the seeker spoke on"


def test_the_openings_words_belong_to_no_turn() -> None:
    hello = Turn(SUPPORTER, "Hello.", strategy="Others")
    opened = decisions(Dialogue((hello, *TALK.turns)))[-1]
    assert opening(opened) == "Hello."
    assert opening(decisions(TALK)[-1]) == ""
    assert [turn.reply for turn in rounds(opened)] == ["When?", "You will find one."]
    assert [turn.message for turn in rounds(opened)] == ["I lost my job.", "Last week."]
    assert [turn.id for turn in rounds(decisions(TALK)[-1])] == ["talk:1, turn 1", "talk:1, turn 3"]


def test_an_emotion_is_valid_until_the_next_one() -> None:
    """Of seekers' turns if those are annotated, else of the dialogue throughout."""
    felt = ("fear", "", "", "")
    turns = tuple(replace(t, emotion=e) for t, e in zip(TALK.turns, felt, strict=True))
    last = decisions(replace(TALK, turns=turns))[-1]
    assert [turn.emotion for turn in rounds(last, annotated=True)] == ["fear", "fear"]
    assert [turn.emotion for turn in rounds(last)] == ["sadness", "sadness"]
    late = (replace(turns[0], emotion=""), *turns[1:2], replace(turns[2], emotion="joy"), turns[3])
    last = decisions(replace(TALK, turns=late))[-1]
    assert [turn.emotion for turn in rounds(last, annotated=True)] == ["", "joy"]


def test_what_is_known_of_a_turn() -> None:
    labels = {"emotion": "fear", "strategy": "Question"}
    assert TurnAnswer(labels).is_known
    assert not TurnAnswer(labels, asked=True).is_known
    assert not TurnAnswer(labels | {"strategy": ""}).is_known
    shown = TurnAnswer(labels, reply="Why?", words=" Why?", failed=["emotion"]).as_reply(calls=2)
    assert shown.steps == (("walk", "s0 -fear-> s1 -Question-> s2 -reply-> s3"),)
    assert (shown.words, shown.failed, shown.calls) == (" Why?", ("emotion",), 2)


def test_the_first_state_waits_for_the_seeker() -> None:
    machine = Machine()
    assert (machine.state, machine.moves, machine.legal, machine.text()) == (
        *("s3", (), "message"),
        "",
    )
    moved = machine.move("message", "a\n b ").move("emotion", "  fear\nnow ")
    assert moved.text() == "Seeker: a\nSeeker:  b \nEmotion: fear now\n"
    assert machine.move("message", "").text() == ""


def test_wording_names_the_labels_and_their_lists() -> None:
    asked = tasks(SUPPORT)
    assert SUPPORT.kind in asked["strategy"]
    assert all(f"`{field}:`" in asked["all"] for field in ("Emotion", "Strategy", "Response"))
    text = lists(SUPPORT, EMOTION_SETS["esconv"])
    assert text.startswith("Emotions: anxiety, ")
    assert all(f"\n- {name}: {told}" in text for name, told in SUPPORT.definitions.items())
    assert answer_start("fear", "Others") == "Emotion: fear\nStrategy: Others\nResponse: "


def test_a_strategy_may_be_given_to_what_is_shown(make: Any, monkeypatch: Any) -> None:
    """For a prompt or for every record; an unknown one is refused."""
    module = make("FiSMiness", "tiny-llama", closed="free", **WIDE)
    Counted(monkeypatch)
    assert [row["strategy"] for row in module.show([TALK, TALK], given="questions")] == [
        "Question"
    ] * 2
    (row,) = module.show([TALK, TALK], prompt="Hi.", given="questions")
    assert row["strategy"] == "Question"
    with pytest.raises(ValueError, match="no support strategy 'Hugs'"):
        module.show([TALK], given="Hugs")


def test_agents_are_loaded_once_frozen_and_in_evaluation(make: Any) -> None:
    agents = {"strategy": {"name": "tiny-gemma"}}
    module = make("FiSMiness", "tiny-llama", mode="agent", agents=agents, **WIDE)
    model = module.action_models()["strategy"]
    assert not any(parameter.requires_grad for parameter in model.lm.parameters())
    assert not model.lm.training
    assert module.action_models()["strategy"] is model
    assert model.encoder is not module.encoder()
    assert module.untrained() == "model.mode: an agent is not trained"
    assert make("FiSMiness", "tiny-llama").untrained() == ""


def test_a_short_window_keeps_the_same_lines_in_training(make: Any, monkeypatch: Any) -> None:
    """What an example leaves out is what the walk leaves out before the same question."""
    lines = [Turn(SEEKER, "I am sad today. " * 2), Turn(SUPPORTER, "Oh, why?", strategy="Question")]
    talk = Dialogue(tuple(lines * 6), emotion="sadness", id="talk:1")
    options = {"max_new_tokens": 4, "closed": "free", "oracle_history": True}
    plain = make("FiSMiness", "tiny-llama", max_length=8192, **options).encoder()
    least = len(plain.ids(plain.head(decisions(talk)[0]))) + plain.room
    module = make("FiSMiness", "tiny-llama", max_length=least + 300, **options)
    read: list[str] = []

    def ask(context: SharedContext, questions: Any, **_: Any) -> list[str]:
        context._run()
        kept = [token for piece in context.pieces[0][context.starts[0] :] for token in piece]
        text = context.tokenizer.decode([*context.prefixes[0], *kept])
        read.append(text + questions[0])
        return ["sadness" if len(read) % 3 == 1 else "Question"]

    monkeypatch.setattr(SharedContext, "ask", ask)
    monkeypatch.setattr(SharedContext, "answer_nll", lambda *_: [(0.0, 0)])
    module.respond(decisions(talk))
    examples = module.encoder()(talk)
    assert len(read) == len(examples) == 18
    for text, example in zip(read, examples, strict=True):
        assert module.tokenizer.decode(example.input_ids).startswith(text)
    assert read[-1].count("Seeker:") < 6, "some are left out"


def test_the_message_that_is_answered_is_never_left_out(make: Any, monkeypatch: Any) -> None:
    """By (1) s1 and s2 hold u_k: just below the limit too, in training and in the walk."""
    options = {"max_new_tokens": 4, "closed": "free"}
    plain = make("FiSMiness", "tiny-llama", max_length=8192, **options).encoder()
    least = len(plain.ids(plain.head(decisions(TALK)[0]))) + plain.room
    module = make("FiSMiness", "tiny-llama", max_length=least + 160, **options)
    encoder, read = module.encoder(), list[str]()
    longest = [max(labels.names, key=len) for labels in (module.emotions, SUPPORT)]

    def ask(context: SharedContext, questions: Any, **_: Any) -> list[str]:
        context._run()
        kept = [token for piece in context.pieces[0][context.starts[0] :] for token in piece]
        read.append(context.tokenizer.decode(kept))
        return [[*longest, *longest, "Oh."][len(read) - 1]]

    monkeypatch.setattr(SharedContext, "ask", ask)
    monkeypatch.setattr(SharedContext, "answer_nll", lambda *_: [(0.0, 0)])
    outcomes = set()
    for size in range(40, 160, 3):
        message = f"Seeker: {'x' * size}\n"
        reply = replace(TALK.turns[3], text="Oh", strategy="Others")  # the decoded ones are longer
        turns = (*TALK.turns[:2], Turn(SEEKER, "x" * size), reply)
        talk = replace(TALK, turns=turns)
        read.clear()
        try:
            prompts = [module.tokenizer.decode(one.input_ids) for one in encoder(talk)[-3:]]
        except TooLongError:
            outcomes.add("too long")
            continue
        outcomes.add("fits")
        assert all(message in prompt for prompt in prompts), size
        module.known = {}
        module.respond(decisions(talk)[1:])
        assert len(read) == 5
        assert all(message in text for text in read[-3:]), size
    assert outcomes == {"fits", "too long"}
