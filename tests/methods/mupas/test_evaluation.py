"""Scores of scenes, figures, and the rows in which scenes are shown and predicted."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from methods.mupas.mupas_scenes import SAID, Made, scene_of

from zoo.errors import InputError
from zoo.methods.mupas.metrics import placed, repetition
from zoo.methods.mupas.reading import SceneReading, continued

WORDS = {"perplexity", "bleu_2", "rouge_l", "distinct_2"}


def reading(**told: Any) -> SceneReading:
    """Return a reading that likes Bob best at every turn."""
    likes = {"Ann": 0.1, "Bob": 0.6, "Cleo de Witt": 0.3}
    nats = {"Ann": 4.0, "Bob": 2.0, "Cleo de Witt": 3.0}
    tokens = {"Ann": 10, "Bob": 5, "Cleo de Witt": 3}
    return SceneReading(**{"chances": (likes,) * 6, "nats": nats, "tokens": tokens, **told})


def test_the_scores_of_a_scene(mupas: Made) -> None:
    """Bob is expected unless he spoke last; perplexity is per token over everybody's words."""
    scores = mupas().score_answers([(scene_of(), reading(reply="No."))], "val")
    assert scores["speaker_accuracy"] == pytest.approx(3 / 4)  # all but the second turn of Ann
    assert scores["speaker_mrr"] == pytest.approx((1 + 1 + 1 / 2 + 1) / 4)
    assert placed({"Ann": 0.5, "Bob": 0.5, "Cy": 0.1}, "Ann") == (1 / 2, (1 + 1 / 2) / 2)
    assert scores["perplexity"] == pytest.approx(math.exp(9 / 18))
    assert scores["distinct_2"] == pytest.approx(100)
    assert scores["rouge_l"] == pytest.approx(100)  # the gold reply, letter for letter


def test_an_answer_is_a_reading_with_words_for_the_last_turn(mupas: Made) -> None:
    """Of each scene, in the order given."""
    module, scenes = mupas(), [scene_of(SAID[:2]), scene_of(SAID[:3])]
    answers = module.answer(scenes)
    assert [answer.reply for answer in answers] == module.generate(scenes)
    for scene, answer in zip(scenes, answers, strict=True):
        alone = module.read(scene)
        assert len(answer.chances) == len(scene.turns) + 1
        assert answer.nats == pytest.approx(alone.nats, abs=1e-6)
        assert answer.tokens == alone.tokens


def test_pairwise_has_no_scores_of_speakers(mupas: Made) -> None:
    """It knows no names, so neither a next speaker nor a figure of them."""
    module = mupas(objective="pairwise")
    answer = reading(chances=(), reply="No.")
    assert module.score_answers([(scene_of(), answer)], "val").keys() == WORDS
    assert module.figures() == {}
    with pytest.raises(InputError, match="pairwise does not know who speaks next"):
        module.simulate(scene_of())


def test_figures_count_every_turn_but_the_first(mupas: Made) -> None:
    module = mupas()
    module.answers = {"scene:1": (scene_of(), reading())}
    shares = module.figures()["turn_share"].axes[0].patches
    assert [bar.get_height() for bar in shares[:3]] == pytest.approx([2 / 4, 1 / 4, 1 / 4])


def test_what_is_predicted_of_a_scene(mupas: Made) -> None:
    row = mupas().prediction(scene_of(), reading(reply="So."))
    assert row == {
        "id": "scene:1",
        "speakers": ["Bob", "Bob", "Cleo de Witt", "Bob", "Bob"],
        "perplexity": pytest.approx(math.exp(0.5)),
        "reply": "So.",
    }


def test_a_sample_shows_three_turns_before_the_last_one(mupas: Made) -> None:
    row = mupas().sample(scene_of(), reading(reply="So."))
    assert row["before"].split("\n") == [f"{name}: {text}" for name, text in SAID[1:4]]
    assert row["gold reply"] == SAID[-1][1]


def test_a_scene_that_went_on_is_a_row_a_turn() -> None:
    """Turns that were given are marked; below, how it ended, and how even and new the talk was."""
    begun = scene_of(SAID[:1])
    told = scene_of((SAID[0], ("Bob", "No,\n me."), ("Ann", "who took  the BOAT?")), ended=False)
    assert continued(begun, told) == {
        "scene": "A pier.",
        "people": "Ann, Bob, Cleo de Witt",
        "turn 1 (given)": "Ann: Who took the boat?",
        "turn 2": "Bob: No, me.",
        "turn 3": "Ann: who took the BOAT?",
        "ended": "at its limit of turns; evenness of turns 0.58, repeated 0.33",
    }
    bare = continued(begun, replace(told, setting="", ended=True))
    assert bare["scene"] == "-"
    assert bare["ended"].startswith("by itself;")
    assert repetition([]) == 0


def test_a_setting_in_words_is_where_people_begin_to_talk(mupas: Made) -> None:
    """Nothing that was said in the scene before is given."""
    module = mupas(max_turns=1)
    (row,) = module.show([scene_of()], prompt="A hut.")
    assert row["scene"] == "A hut."
    assert "turn 1 (given)" not in row
    (row,) = module.show([scene_of()])
    assert [name for name in row if "(given)" in name] == ["turn 1 (given)", "turn 2 (given)"]
