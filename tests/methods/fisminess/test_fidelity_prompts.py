"""FiSMiness' prompts: what of the state and of the history each call is asked with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from methods.fisminess.fisminess_reference import ONE, WIDE, Asked

from zoo.methods.fisminess.machine import Machine, rounds
from zoo.records import SEEKER
from zoo.support.decisions import decisions


@pytest.mark.fidelity("fisminess", 2)
@pytest.mark.fidelity("fisminess", 3)
@pytest.mark.parametrize("oracle", [False, True])
def test_prompts_hold_the_state(make: Any, monkeypatch: Any, oracle: bool) -> None:
    """e is asked without this turn's e and g, g with e, u with both; t turns leave t of each."""
    module = make("FiSMiness", "tiny-llama", spread=4.0, oracle_history=oracle, **WIDE)
    asked = Asked(monkeypatch)
    found = module.respond(decisions(ONE)[:3])
    assert len(asked.prompts) == 9
    for t, one in enumerate(found):
        for_e, for_g, for_u = (rows[0] for rows in asked.prompts[3 * t : 3 * t + 3])
        for text, labels in ((for_e, 0), (for_g, 1), (for_u, 2)):
            assert text.count("\nEmotion: ") == t + (labels > 0)
            assert text.count("\nStrategy: ") == t + (labels > 1)
        assert f"\nEmotion: {one.emotion}\n" in for_g.rpartition("Seeker:")[2]
        both = f"\nEmotion: {one.emotion}\nStrategy: {one.strategy}\n"
        assert both in for_u.rpartition("Seeker:")[2]
        assert "Emotion:" not in for_e.rpartition("Seeker:")[2].partition("Supporter")[0] or t == 2
        past = zip(decisions(ONE)[:t], found[:t], strict=True)
        for decision, before in past:  # by the annotation, or by the model
            e = "sadness" if oracle else before.emotion
            g = decision.target.strategy if oracle else before.strategy
            assert f"Emotion: {e}\nStrategy: {g}\nSupporter: {decision.target.text}\n" in for_e


@pytest.mark.fidelity("fisminess", 3)
@pytest.mark.parametrize("mode", ["agent", "single_pass"])
def test_labels_that_nobody_annotated_stay_in_an_annotated_history(
    make: Any, monkeypatch: Any, mode: str
) -> None:
    """Also where the strategy is given: what was decoded on the way is not lost."""
    options = {"mode": mode, "closed": "free", "oracle_history": True}
    module = make("FiSMiness", "tiny-llama", **options, **WIDE)
    asked = Asked(monkeypatch)
    state = decisions(replace(ONE, emotion=""))[2]
    module.respond([state], strategies=["Information"])
    for text in (asked.prompts[-1][0], asked.prompts[-2][0]):
        assert text.count("\nEmotion: ") >= 2
        assert text.count("\nStrategy: ") >= 2


@pytest.mark.parametrize("source", ["conversation", "annotated"])
@pytest.mark.parametrize("oracle", [False, True])
def test_an_emotion_that_the_history_shows_is_not_scored(
    make: Any, oracle: bool, source: str
) -> None:
    """The dialogue's one emotion stands in an annotated history: no accuracy, no confusion."""
    given = {"mode": "agent", "emotion_source": source, "oracle_history": oracle}
    module = make("FiSMiness", "tiny-llama", **given, **WIDE)
    felt = (replace(t, emotion="fear" if t.speaker == SEEKER else "") for t in ONE.turns)
    states = decisions(replace(ONE, turns=tuple(felt)))[:2]
    pairs = list(zip(states, module.respond(states), strict=True))
    module.answers = {state.id: (state, reply) for state, reply in pairs}
    shown = not oracle or source == "annotated"
    assert ("emotion_accuracy" in module.score_answers(pairs, "test")) == shown
    assert ("emotions" in module.figures()) == shown


@pytest.mark.fidelity("fisminess", 3)
def test_history_as_text() -> None:
    machine = Machine()
    for one in rounds(decisions(ONE)[-1]):
        machine = machine.move("message", one.message).move("emotion", "fear")
        machine = machine.move("strategy", one.strategy).move("reply", one.reply)
    assert machine.text().count("Emotion: fear\n") == machine.text().count("Strategy: ") == 4
    assert machine.text().startswith("Seeker: I lost my job.\nEmotion: fear\nStrategy: Question\n")
    assert machine.text().count("Seeker: ") == 4  # no utterance is lost or doubled
