"""MuPaS's properties 8 to 10: scenes that go on alone, speakers that are learned, the user."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from methods.mupas.mupas_scenes import SAID, STRATEGIES, Made, batch_of, scene_of

from zoo.losses.cross_entropy import total_loss
from zoo.methods.mupas.metrics import SpeakerScores
from zoo.methods.mupas.simulate import Stage
from zoo.records import Role, Scene, Turn


@pytest.mark.fidelity("mupas", 8)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_scenes_go_on_alone(mupas: Made, strategy: str, temperature: float) -> None:
    """At least N turns by listed people only; and an end by itself once the model learned one."""
    module = mupas(strategy=strategy)
    begun = scene_of(SAID[:1])
    told = module.simulate(begun, min_turns=4, max_turns=4, temperature=temperature)
    assert len(told.turns) == 5
    assert {turn.speaker for turn in told.turns} <= set(begun.names)
    assert all(turn.text for turn in told.turns)
    assert all(a.speaker != b.speaker for a, b in itertools.pairwise(told.turns))


@pytest.mark.fidelity("mupas", 8)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("last", ["Ann", "Bob", "Cleo de Witt"])
def test_who_spoke_last_does_not_go_on(mupas: Made, strategy: str, last: str) -> None:
    """However much a model would like it; of all others the likeliest is next."""
    said = [pair for pair in SAID if pair[0] != last] + [(last, "So.")]
    stage = Stage(mupas(strategy=strategy), scene_of(said, ended=False))
    first, second = (name for name in stage.headers if name != last)
    likes = {last: 0.9, first: 0.05, second: 0.2}
    stage._header = lambda name: math.log(likes[name])
    stage._silence = lambda name: math.log(1 - likes[name])
    assert stage.choose(0.0, may_end=False) == second
    drawn = {stage.choose(1.0, may_end=False) for _ in range(60)}
    assert drawn == {first, second}


def overfitted(make: Made, strategy: str, steps: int = 120) -> tuple[Any, list[Scene]]:
    """Return a tiny model that learned two scenes by heart."""
    scenes = [scene_of(), replace(scene_of(SAID[::-1]), setting="A hut.", id="scene:2")]
    module = make("MuPaS", "tiny-llama", strategy=strategy, max_length=2048, max_answer_tokens=48)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    batch = batch_of(module, *scenes)
    for _ in range(steps):
        optimizer.zero_grad()
        total_loss(module.losses(batch)).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    return module.eval(), scenes


@pytest.fixture(scope="session", params=STRATEGIES)
def learned(request: pytest.FixtureRequest, make: Made) -> tuple[Any, list[Scene]]:
    """A model of each strategy that learned two scenes by heart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return overfitted(make, request.param)


def accuracy_of(module: Any, scenes: list[Scene]) -> dict[str, float]:
    """Return the speaker scores over scenes."""
    metric = SpeakerScores()
    chances = [module.read(scene).chances[1 : len(scene.turns)] for scene in scenes]
    metric.update(scenes, chances)
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.fidelity("mupas", 9)
def test_speakers_are_learned(learned: tuple[Any, list[Scene]], make: Made) -> None:
    """All right after learning by heart, above alternation, also with three people; before, 1/L."""
    module, scenes = learned
    scores = accuracy_of(module, scenes)
    assert scores["speaker_accuracy"] == scores["speaker_accuracy_3plus"] == 1
    assert scores["rule_previous_other_3plus"] < 0.5
    untrained = make("MuPaS", "tiny-llama", strategy=module.strategy, max_length=2048)
    alike = [(name.replace("Cleo de Witt", "Eva"), text) for name, text in SAID]
    scene = replace(scene_of(alike), roles=(Role("Ann"), Role("Bob"), Role("Eva")))
    for chances in untrained.read(scene).chances:  # names of one length
        assert list(chances.values()) == pytest.approx([1 / 3] * 3, abs=0.12)


@pytest.mark.fidelity("mupas", 8)
def test_scenes_end_alone(learned: tuple[Any, list[Scene]]) -> None:
    """Scenes that were learned by heart end where they ended, and not before."""
    module, scenes = learned
    for scene in scenes:
        whole = module.simulate(scene, max_turns=3)
        assert whole.ended
        assert whole.turns == scene.turns
        begun = module.simulate(replace(scene, turns=scene.turns[:2]), max_turns=1)
        assert not begun.ended
    assert module.simulate(replace(scenes[0], turns=scenes[0].turns[:2]), max_turns=8).ended


@pytest.mark.fidelity("mupas", 10)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_is_written_for_the_user(mupas: Made, strategy: str) -> None:
    """All lines of the user are the user's; without one the scene stops at their turn."""
    module = mupas(strategy=strategy)
    lines = iter(["First line.", "Second line."])
    heard: list[Turn] = []
    told = module.simulate(
        scene_of(SAID[:1]),
        user="Bob",
        listen=lambda: next(lines, None),
        told=heard.append,
        min_turns=30,
        max_turns=30,
        temperature=1.0,
    )
    mine = [turn.text for turn in told.turns if turn.speaker == "Bob"]
    assert mine == ["First line.", "Second line."][: len(mine)]
    assert mine
    assert all(turn.speaker != "Bob" for turn in heard)
    stopped = module.simulate(
        scene_of(SAID[:1]), user="Bob", min_turns=30, max_turns=30, temperature=1.0
    )
    assert all(turn.speaker != "Bob" for turn in stopped.turns)


@pytest.mark.fidelity("mupas", 10)
@pytest.mark.parametrize("listen", [None, lambda: None])
def test_no_turn_follows_a_user_who_left(
    mupas: Made, monkeypatch: pytest.MonkeyPatch, listen: Any
) -> None:
    """Not of the others either, of whom there are two."""
    order = iter(["Cleo de Witt", "Bob", "Ann", "Cleo de Witt"])
    monkeypatch.setattr(Stage, "choose", lambda *args, **options: next(order))
    heard: list[Turn] = []
    begun = scene_of(SAID[:1])
    told = mupas().simulate(begun, user="Bob", listen=listen, told=heard.append, max_turns=4)
    assert [turn.speaker for turn in told.turns] == ["Ann", "Cleo de Witt"]
    assert [turn.speaker for turn in heard] == ["Cleo de Witt"]
    assert not told.ended
