"""Scenes that go on: who is next, when they end, windows that are full, scenes written to files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.mupas.mupas_scenes import SAID, STRATEGIES, Made, scene_of

from datamodules import Scenes
from zoo.errors import TooLongError
from zoo.methods.mupas.chances import nobody_speaks
from zoo.methods.mupas.simulate import SPARE, Stage, simulate, write_scenes
from zoo.records import Turn


def test_written_scenes_are_data(tmp_path: Path) -> None:
    """Every field comes back, of a scene that ended and of one that did not."""
    path = tmp_path / "scenes.jsonl"
    scenes = [scene_of(), replace(scene_of(SAID[:2], ended=False), setting="Kö", id="2")]
    write_scenes(path, scenes)
    assert Scenes(str(path)).records("test") == scenes


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


@pytest.mark.parametrize("people", [2, 3, 8])
def test_silences_end_a_scene_where_nobody_is_likelier_than_anybody(people: int) -> None:
    """Learned with 1/(L - 1), somebody silent in a share s has odds s / (L - 1) to 1 - s.

    So whoever expects nothing but that one of L speaks does not end a scene, nor does who knows who
    spoke last, though P(SILENCE) is a half and more; who expects an end in most cases does.
    """

    def log_silence(speaks: float) -> float:
        weighted = (1 - speaks) / (people - 1)
        return math.log(weighted / (weighted + speaks))

    assert math.exp(log_silence(1 / people)) == pytest.approx(0.5)
    assert not nobody_speaks([log_silence(1 / people)] * people)
    knows = [log_silence(1e-6)] + [log_silence(1 / (people - 1) - 1e-6)] * (people - 1)
    assert not nobody_speaks(knows)
    share = 1 / (people + 1)  # as likely as the end
    assert not nobody_speaks([log_silence(share * 1.01)] * people)
    assert nobody_speaks([log_silence(share * 0.99)] * people)


def test_a_scene_goes_on_though_everybody_would_rather_be_silent(mupas: Made) -> None:
    """P(SILENCE) of .55 is a chance to speak of .29 for each of three; .7 is one of .18."""
    stage = Stage(mupas(strategy="speak_or_silence"), scene_of(SAID[:1], ended=False))
    likes = {"Ann": 0.55, "Bob": 0.57, "Cleo de Witt": 0.55}
    stage._silence = lambda name: math.log(likes[name])
    assert stage.choose(0.0, may_end=True) == "Cleo de Witt"
    likes = dict.fromkeys(likes, 0.7)
    assert stage.choose(0.0, may_end=True) is None


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


def test_people_who_fill_the_window_are_refused_before_anybody_speaks(mupas: Made) -> None:
    """Two turns have to fit beside them: one that was written and the next one."""
    scene, encoder = scene_of((), ended=False), mupas().encoder()
    turn = 50 + max(len(encoder.header(name)) for name in scene.names) + 2
    needed = len(encoder.prefix(scene)) + 2 * turn
    Stage(mupas(max_answer_tokens=50, max_length=needed), scene)
    heard: list[Turn] = []
    said = (
        rf"scene:1: its setting and people are \d+ tokens; the window max_length={needed - 1} has"
    )
    with pytest.raises(TooLongError, match=said):
        mupas(max_answer_tokens=50, max_length=needed - 1).simulate(scene, told=heard.append)
    assert not heard


def test_a_turn_that_is_checked_fits_the_scene(mupas: Made) -> None:
    """To the token, of which a letter has one; a longer one is refused with what would fit."""
    module, scene = mupas(max_length=420), scene_of(SAID[:1], ended=False)
    stage = Stage(module, scene)
    room = stage.budget - len(module.encoder().prefix(scene))
    letters = room - len(stage.headers["Bob"]) - 1  # the end of the turn
    module.check_turn(scene, Turn("Bob", "x" * letters))
    stage.add(Turn("Bob", "x" * letters))
    said = f"a turn of {room + 1} tokens does not fit the window: max_length leaves {room} for it"
    with pytest.raises(TooLongError, match=said):
        module.check_turn(scene, Turn("Bob", "x" * (letters + 1)))


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
