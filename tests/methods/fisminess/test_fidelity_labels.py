"""FiSMiness' labels: always of the closed lists, read off words, files and turns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.fisminess.fisminess_reference import (
    ONE,
    OTHER,
    TWO,
    WIDE,
    Reference,
    learned,
    talk,
    triples,
)

from datamodules import DailyDialog
from zoo.decoding.shared_context import SharedContext
from zoo.errors import InputError
from zoo.records import SUPPORTER, Turn
from zoo.support.decisions import decisions
from zoo.support.labels import EMOTION_SETS, EMOTIONS, STRATEGIES

UNSAID = ("Others", "Why?")


# -- 7: closed lists ---------------------------------------------------------------------------


@pytest.mark.fidelity("fisminess", 7)
@pytest.mark.parametrize("closed", ["constrained", "likelihood", "free"])
def test_labels_are_of_the_lists(make: Any, closed: str) -> None:
    """Whatever a random model says: a name of the list, or the fallback, counted."""
    module = make("FiSMiness", "tiny-qwen2", spread=4.0, closed=closed, **WIDE)
    found = module.respond([*decisions(ONE)[:2], *decisions(OTHER)])
    for one in found:
        assert one.emotion in EMOTIONS
        assert one.strategy in STRATEGIES
        if closed == "free":  # noise means no name
            assert one.failed == ("emotion", "strategy")
            assert (one.emotion, one.strategy) == ("anxiety", "Others")
        else:
            assert one.failed == ()


@pytest.mark.fidelity("fisminess", 7)
@pytest.mark.parametrize("two", TWO)
def test_likelihood_is_the_mean_log_probability(make: Any, two: str) -> None:
    """Over the label's tokens and its end, computed from whole prompts."""
    module = make("FiSMiness", two, spread=4.0, closed="likelihood", **WIDE)
    reference = Reference(module)
    prompt = reference.prompt(ONE, "Seeker: I lost my job.\n", "emotion")
    ids = module.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    scores = []
    for name in EMOTIONS:
        label = [*module.encoder().ids(name), module.encoder().stop_id]
        with torch.no_grad():
            logits = module.lm(torch.tensor([ids + label])).logits[0, len(ids) - 1 : -1].float()
        scores.append(float(logits.log_softmax(-1)[range(len(label)), label].mean()))
    expected = EMOTIONS[scores.index(max(scores))]
    assert module.respond(decisions(ONE)[:1])[0].emotion == expected


@pytest.mark.fidelity("fisminess", 7)
@pytest.mark.parametrize(
    ("words", "emotion", "strategy", "reply", "failed"),
    [
        ("Emotion: fear\nStrategy: questions\nResponse: Why?", "fear", "Question", "Why?", ()),
        ("**Emotion:** fear\n**Strategy:** x\n**Response:** Why?", "fear", *UNSAID, ("strategy",)),
        ("1. Emotion: fear\n2. Strategy: x\n3. Response: Why?", "fear", *UNSAID, ("strategy",)),
        ("Emotion: fear\nStrategy: questions", "fear", "Question", "", ("reply",)),
        ("Response: Why?\nSeeker: So.", "anxiety", *UNSAID, ("emotion", "strategy")),
        ("I see.", "anxiety", "Others", "", ("emotion", "strategy", "reply")),
        ("Emotion: fear. Strategy: Question. Response: Why?", "fear", "Question", "Why?", ()),
        ("Emotion: fear\nStrategy: x\n\nWhy?", "fear", *UNSAID, ("strategy", "reply")),
    ],
)
def test_what_a_single_pass_lacks_is_counted(
    make: Any,
    monkeypatch: Any,
    words: str,
    emotion: str,
    strategy: str,
    reply: str,
    failed: tuple[str, ...],
) -> None:
    module = make("FiSMiness", "tiny-llama", mode="single_pass", **WIDE)
    monkeypatch.setattr(
        SharedContext, "ask", lambda context, questions, **_: [words] * len(questions)
    )
    (one,) = module.respond(decisions(ONE)[:1])
    assert (one.emotion, one.strategy, one.reply, one.failed) == (emotion, strategy, reply, failed)


def test_a_single_pass_keeps_room_for_all_it_writes(make: Any, monkeypatch: Any) -> None:
    module = make("FiSMiness", "tiny-llama", mode="single_pass", **WIDE)
    limits: list[int] = []

    def ask(context: SharedContext, questions: Any, *, max_new_tokens: int, **_: Any) -> list[str]:
        limits.append(max_new_tokens)
        assert context.budget == 8192 - module.encoder().room
        return [""] * len(questions)

    monkeypatch.setattr(SharedContext, "ask", ask)
    module.respond(decisions(ONE)[:1])
    assert module.encoder().room > module.encoder().asking + limits[0]


@pytest.mark.fidelity("fisminess", 7)
def test_free_words_are_read_by_alias(make: Any, monkeypatch: Any) -> None:
    module = make("FiSMiness", "tiny-llama", closed="free", **WIDE)
    words = iter(["They feel anxious.", "approval and reassurance", "Good.", "??", "Hugs", "Hm."])
    monkeypatch.setattr(SharedContext, "ask", lambda self, q, **_: [next(words)] * len(q))
    found = module.respond(decisions(OTHER))
    assert triples(found) == [
        ("anxiety", "Affirmation and Reassurance", "Good."),
        ("anxiety", "Others", "Hm."),
    ]
    assert [one.failed for one in found] == [(), ("emotion", "strategy")]
    pairs = zip(decisions(OTHER), found, strict=True)
    module.answers = {decision.id: (decision, one) for decision, one in pairs}
    scores = module.score_answers([*module.answers.values()], "val")
    assert scores["strategy_failed"] == scores["emotion_failed"] == 50.0


# -- bad input ---------------------------------------------------------------------------------


def test_bad_labels(make: Any) -> None:
    encoder = make("FiSMiness", "tiny-llama", **WIDE).encoder()
    missing = replace(ONE, turns=(*ONE.turns[:1], Turn(SUPPORTER, "Hm."), *ONE.turns[2:]))
    with pytest.raises(InputError, match="talk:1, turn 1: no support strategy is annotated"):
        encoder(missing)
    odd = talk(("", "a"), ("Questoin", "b"))
    with pytest.raises(InputError, match="no support strategy 'Questoin'; did you mean 'Question'"):
        encoder(odd)
    with pytest.raises(InputError, match="no emotion 'rage'"):
        encoder.study([replace(ONE, emotion="rage")], "train")
    with pytest.raises(InputError, match=r"talk:1, turn 1: no emotion is annotated; see model\."):
        encoder.study([replace(ONE, emotion="")], "train")
    encoder.study([replace(ONE, emotion="")], "test")  # there it is only answered
    assert [e.head_weights() for e in encoder(replace(ONE, emotion=""))] == [{}] * 4
    assert len(encoder(talk(("", "a"), ("questions", "b"), emotion="Sad"))) == 3  # aliases
    silent = replace(ONE, turns=tuple(replace(t, strategy="") for t in ONE.turns))
    with pytest.raises(InputError, match="talk:1: no supporter turn has a support strategy"):
        encoder.study([silent], "train")
    encoder.study([silent], "test")
    assert [example.head_weights() for example in encoder(silent)] == [{}] * 4


def test_settings_that_do_not_fit(make: Any) -> None:
    for options, message in (
        ({"emotion_source": "predicted"}, "model.predicted: goes with"),
        ({"agents": {"reply": {"name": "tiny-gemma"}}}, "model.agents: mt has one set of weights"),
        ({"mode": "agent", "agents": {"repl": {}}}, "model.agents: no arrow 'repl'"),
        ({"weights": [1.0]}, "model.weights: give three"),
    ):
        with pytest.raises(InputError, match=message):
            make("FiSMiness", "tiny-llama", **options)


def test_emotions_of_a_file_and_of_turns(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "emotions.jsonl"
    rows = [f'{{"id": "talk:2, turn {i}", "emotion": "{e}"}}' for i, e in ((2, "fear"), (4, "sad"))]
    path.write_text("\n".join(rows) + "\n")
    given = {"emotion_source": "predicted", "predicted": str(path)}
    module = make("FiSMiness", "tiny-llama", **given, **WIDE)
    learned_emotions = [learned(e, module.tokenizer) for e in module.encoder()(OTHER)[::3]]
    end = module.encoder().chat.end
    assert learned_emotions == ["fear" + end, "sadness" + end]
    with pytest.raises(InputError, match="talk:1, turn 1: no emotion for it in the file"):
        module.encoder().study([ONE], "train")
    daily = make(
        *("FiSMiness", "tiny-llama"),
        **{"labels": "acts", "emotions": "daily_dialog", "emotion_source": "annotated", **WIDE},
    )
    record = DailyDialog().records("test")[0]
    targets = [learned(e, daily.tokenizer) for e in daily.encoder()(record)[:2]]
    assert targets == [record.turns[0].emotion + end, record.turns[1].strategy + end]
    from datamodules.daily_dialog import EMOTIONS as DAILY
    from datamodules.empathetic_dialogues import EMOTIONS as EMPATHETIC

    assert EMOTION_SETS["daily_dialog"].names == DAILY
    assert EMOTION_SETS["empathetic_dialogues"].names == EMPATHETIC
