"""What MuPaS shows, writes and refuses, and scenes that outgrow the window while they go on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.mupas.mupas_scenes import SAID, STRATEGIES, batch_of, scene_of

import zoo
from datamodules import Scenes
from zoo.errors import InputError
from zoo.methods.mupas.encoder import SPEAKER, UTTERANCE
from zoo.methods.mupas.metrics import placed, repetition
from zoo.methods.mupas.reading import SceneReading, continued
from zoo.methods.mupas.simulate import SPARE, Stage, simulate, write_scenes
from zoo.records import Role, Turn

Made = Callable[..., Any]
WORDS = {"perplexity", "bleu_2", "rouge_l", "distinct_2"}


def reading(**told: Any) -> SceneReading:
    """Return a reading that likes Bob best at every turn."""
    likes = {"Ann": 0.1, "Bob": 0.6, "Cleo de Witt": 0.3}
    nats = {"Ann": 4.0, "Bob": 2.0, "Cleo de Witt": 3.0}
    tokens = {"Ann": 10, "Bob": 5, "Cleo de Witt": 3}
    return SceneReading(**{"chances": (likes,) * 6, "nats": nats, "tokens": tokens, **told})


# -- scores and rows -------------------------------------------------------------------------------


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


def test_written_scenes_are_data(tmp_path: Path) -> None:
    """Every field comes back, of a scene that ended and of one that did not."""
    path = tmp_path / "scenes.jsonl"
    scenes = [scene_of(), replace(scene_of(SAID[:2], ended=False), setting="Kö", id="2")]
    write_scenes(path, scenes)
    assert Scenes(str(path)).records("test") == scenes


def test_a_setting_in_words_is_where_people_begin_to_talk(mupas: Made) -> None:
    """Nothing that was said in the scene before is given."""
    module = mupas(max_turns=1)
    (row,) = module.show([scene_of()], prompt="A hut.")
    assert row["scene"] == "A hut."
    assert "turn 1 (given)" not in row
    (row,) = module.show([scene_of()])
    assert [name for name in row if "(given)" in name] == ["turn 1 (given)", "turn 2 (given)"]


def test_a_tree_is_previewed_as_its_trunk(mupas: Made) -> None:
    """What was said stands there once; who was silent, asked beside it, does not."""
    encoder = mupas(strategy="speak_or_silence").encoder()
    (tree,) = encoder(scene_of(ended=False))
    shown = "".join(encoder.preview(tree))
    assert shown.count("Not me, I was asleep all night.") == 1
    assert shown.count("Bob") == 1 + 2, "the card and two turns"


# -- losses and settings ---------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_window_weighs_one(mupas: Made, strategy: str) -> None:
    """In the words' loss and in the speaker's, however long: the mean is over windows."""
    module = mupas(strategy=strategy)
    terms = module.losses(batch_of(module, scene_of(), scene_of(SAID[:2], ended=False)))
    assert {name: term.weight.item() for name, term in terms.items()} == {
        "utterance": pytest.approx(2),
        "speaker": pytest.approx(2),
    }
    assert [term.normalizer for term in terms.values()] == pytest.approx([2, 2])


def test_the_protagonist_alone_is_learned(mupas: Made) -> None:
    """Of several with most turns the first; windows in which they are silent teach nothing."""
    size = len(mupas().encoder().prefix(scene_of())) + 110
    encoder = mupas(objective="single_role", max_length=size).encoder()
    said = (*SAID[:2], ("Ann", "Bob, tell me."), ("Cleo de Witt", "The wind did. " * 5))
    cut = encoder.windows(scene_of(said))
    spoken = [{turn.name for turn in window.turns} for window in cut]
    assert not all("Ann" in names for names in spoken)
    assert len(encoder(scene_of(said))) == sum("Ann" in names for names in spoken)
    for window in cut:
        assert encoder.word_weights(window).keys() <= {"Ann"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"speaker_weight": -0.1}, "model.speaker_weight: -0.1 is below 0"),
        ({"strategy": "speak_or_silence", "speaker_weight": 0.0}, "learns silences"),
        ({"strategy": "speak_or_silence", "objective": "pairwise"}, "no silences either"),
    ],
)
def test_settings_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        zoo.MuPaS({"name": "tiny-llama"}, **options).validate()


def test_names_alone_need_no_speaker_loss() -> None:
    """S1 with lambda 0, and two people without names, are what the page's baselines are."""
    for options in ({"speaker_weight": 0.0}, {"objective": "pairwise"}):
        zoo.MuPaS({"name": "tiny-llama"}, **options).validate()


def test_a_scene_without_words_or_company_is_refused(mupas: Made) -> None:
    module = mupas()
    with pytest.raises(InputError, match="scene:1: nobody says anything"):
        module.encoder()(scene_of(()))
    alone = replace(scene_of(()), roles=(Role("Ann"),))
    with pytest.raises(InputError, match="scene:1: 1 people; a scene needs two"):
        module.simulate(alone)
    with pytest.raises(InputError, match="temperature: -1.0 is below 0"):
        module.simulate(scene_of(), temperature=-1.0)


# -- going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_asking_who_is_next_leaves_the_scene_as_it_was(mupas: Made, strategy: str) -> None:
    """Chances of a running scene are those of a pass over it, the same when asked again."""
    module = mupas(strategy=strategy)
    stage = Stage(module, scene_of(SAID[:3], ended=False))
    before = stage.decoder.state().clone()
    picked = [stage.choose(0.0, may_end=False) for _ in range(2)]
    assert torch.equal(stage.decoder.state(), before)
    wanted = module.next_speaker(scene_of(SAID[:3], ended=False))
    wanted.pop("Cleo de Witt")  # who spoke last
    assert picked == [max(wanted, key=wanted.__getitem__)] * 2


def test_a_scene_may_end_once_it_has_its_least_turns(mupas: Made) -> None:
    """A model that would always end the scene does so at the first turn that it may."""
    module = mupas()
    encoder = module.encoder()
    logits = module.last_logits
    module.last_logits = lambda states: logits(states).index_add(
        -1, torch.tensor([encoder.stop_id]), torch.full((*states.shape[:-1], 1), 1e4).double()
    )
    for least in (0, 2):
        told = module.simulate(scene_of(SAID[:1]), min_turns=least, max_turns=4)
        assert told.ended
        assert len(told.turns) == 1 + least


def test_a_scene_that_outgrows_the_window_begins_again_with_room(mupas: Made) -> None:
    """Always the system turn and the newest turns; then a quarter of the window is free."""
    module = mupas(max_length=420)
    stage = Stage(module, scene_of(SAID[:2], ended=False))
    head = len(module.encoder().prefix(scene_of()))
    begun, used = 0, stage.used
    for i in range(16):
        stage.add(Turn(("Ann", "Bob")[i % 2], "The wind blew all night."))
        assert stage.used <= stage.budget
        if stage.used < used:
            begun += 1
            assert stage.used - head <= (1 - SPARE) * (stage.budget - head)
            fresh = Stage(module, stage.scene)
            torch.testing.assert_close(stage.decoder.state(), fresh.decoder.state())
        used = stage.used
    assert begun == 2
    assert len(stage.scene.turns) == 18, "nothing is forgotten of the scene itself"


def test_a_turn_of_blanks_is_three_dots(mupas: Made) -> None:
    module = mupas()
    stage = Stage(module, scene_of(SAID[:1], ended=False))
    stage.decoder.decode = lambda *args, **options: [[module.tokenizer.encode(" ")[-1]]]
    assert stage.speak("Bob", 0.0, 1.0) == Turn("Bob", "...")
    assert stage.scene.turns[-1] == Turn("Bob", "...")


def test_a_user_who_falls_silent_stops_the_scene(mupas: Made) -> None:
    """What is heard is their turn; nothing is told of it, and without words the scene stops."""
    heard: list[Turn] = []
    asked: dict[str, Any] = {"told": heard.append, "max_turns": 3, "min_turns": 9}
    scene = replace(scene_of(SAID[:1]), roles=scene_of().roles[:2])
    lines = iter(["Me."])
    told = simulate(
        mupas(),
        scene,
        user="Bob",
        listen=lambda: next(lines, None),
        temperature=0.0,
        top_p=1.0,
        **asked,
    )
    assert [turn.speaker for turn in told.turns] == ["Ann", "Bob", "Ann", "Bob"][: len(told.turns)]
    assert told.turns[1] == Turn("Bob", "Me.")
    assert [turn.speaker for turn in heard] == ["Ann"]


def test_heads_and_keys_of_a_scored_tree(mupas: Made) -> None:
    """Each boundary asks everybody; S1 asks whether the scene ends there, S2 needs not."""
    for strategy, ends in zip(STRATEGIES, (3, 0), strict=True):
        encoder = mupas(strategy=strategy).encoder()
        (window,) = encoder.windows(scene_of(SAID[:2], ended=False))
        tree, keys = encoder.tree(window, scoring=True)
        kinds = [kind for kind, _, _ in keys]
        assert (kinds.count("speaker"), kinds.count("words"), kinds.count("end")) == (9, 2, ends)
        heads = [node.head for node in tree.nodes if node.head in (UTTERANCE, SPEAKER)]
        assert heads == [UTTERANCE if kind == "words" else SPEAKER for kind in kinds]


def test_a_turn_that_fills_the_window_to_the_brim_still_fits(mupas: Made) -> None:
    """The scene begins again with the first token that does not, whoever wrote the turn."""
    turn = Turn("Bob", "No.")
    for spare, again in ((0, False), (-1, True)):
        stage = Stage(mupas(), scene_of(SAID[:1], ended=False))
        before, written = stage.decoder, stage._ids(turn)
        stage.budget = stage.used + len(written) + spare
        stage.add(turn)
        assert (stage.decoder is not before) is again
        stage = Stage(mupas(), scene_of(SAID[:1], ended=False))
        before = stage.decoder
        stage.budget = stage.used + len(written) + spare
        words = written[len(stage.headers["Bob"]) : -1]
        before.decode = lambda *args, ids=words, **options: [ids]
        assert stage.speak("Bob", 0.0, 1.0) == turn
        assert (stage.decoder is not before) is again
