"""Settings and scenes that are refused, and settings that just fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from methods.mupas.mupas_scenes import Made, scene_of

import zoo
from zoo.errors import InputError
from zoo.records import Role


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"speaker_weight": -0.1}, "model.speaker_weight: -0.1 is below 0"),
        ({"strategy": "speak_or_silence", "speaker_weight": 0.0}, "learns silences"),
        ({"strategy": "speak_or_silence", "objective": "pairwise"}, "no silences either"),
        ({"strategy": "speak_or_silence", "objective": "single_role"}, "single_role learns words"),
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
