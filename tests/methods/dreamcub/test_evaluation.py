"""Beliefs beside replies, in scores and in figures; dialogues side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from methods.dreamcub.dreamcub_reference import module_of, states_of

from zoo.methods.dreamcub.learning import side_by_side
from zoo.records import SEEKER, Turn
from zoo.support.reply import SupportReply


def test_a_belief_stands_beside_a_reply(make: Any) -> None:
    """And in the figures, for each factor that is annotated: gold by row."""
    module = module_of(make, factors=["sentiment", "intention"])
    states = states_of(0, 1)
    answers = module.respond([state.decision for state in states])
    for answer in answers:
        (line,) = [text for name, text in answer.steps if name == "belief"]
        assert line.startswith("sentiment=")
        assert answer.emotion == ""
        assert answer.calls == 2
    line = "sentiment=negative; intention=inform"
    known = SupportReply("So.", steps=(("belief", line),))
    blank = replace(states[1].decision, turns=(Turn(SEEKER, "Hm.", emotion="fear"),))
    pairs = [(states[0].decision, known), (blank, known)]
    scores = module.score_answers(pairs, "val")
    assert scores["sentiment_belief_accuracy"] == 1 / 2  # happiness is positive, fear negative
    assert scores["intention_belief_accuracy"] == 1
    shown = module.figures()
    assert {"belief_sentiment", "belief_intention"} <= shown.keys()
    counts = shown["belief_sentiment"].axes[0].images[0].get_array()
    assert counts.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]
    module.answers = {"d": (replace(blank, turns=(Turn(SEEKER, "Hm."),)), known)}
    assert not [name for name in module.figures() if name.startswith("belief")]


def test_an_emotion_that_is_believed_is_recognised(module: Any) -> None:
    (answer,) = module.respond([states_of(0)[0].decision])
    line = dict(answer.steps)["belief"]
    assert f"emotion={answer.emotion};" in line


def test_dialogues_stand_side_by_side_in_a_table() -> None:
    assert side_by_side("a|b\nc", "") == "| a\\|b<br>c |  |"
