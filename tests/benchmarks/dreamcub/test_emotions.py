"""DailyDialog's emotions drawn evenly: which states are learned and asked, and what learns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import datamodules
from benchmarks.dreamcub import beliefs, emotions, small_base


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the sample, a base of two steps, and emotions with one state."""
    monkeypatch.setattr(
        emotions, "data_of", lambda name, seed: datamodules.DailyDialog(seed=seed, max_train=20)
    )
    monkeypatch.setattr(beliefs, "WINDOW", {**beliefs.WINDOW, "max_length": 400})
    for name, value in (("STEPS", 2), ("BATCH", 2)):
        monkeypatch.setattr(small_base, name, value)
    monkeypatch.setattr(emotions, "STEPS", {"memorised": 2, "even": 2})
    for name, value in (("ENOUGH", 1), ("MEMORISED", 1), ("ASKED", 1)):
        monkeypatch.setattr(emotions, name, value)


@pytest.mark.parametrize("part", ["memorised", "even"])
def test_as_many_states_of_each_emotion_are_asked(part: str, tmp_path: Path) -> None:
    entry = emotions.run(part, "world model", 0, tmp_path)
    assert len(entry["learned"]) > 1
    assert entry["asked"] == len(entry["learned"]) == len(entry["items"]["emotion"])
    if part == "memorised":
        assert set(entry["learned"].values()) == {1}
    share = sum(entry["items"]["emotion"]) / entry["asked"]
    assert entry["metrics"]["emotion_belief_balanced"] == pytest.approx(share)
    assert sum(entry["found"].values()) / len(entry["found"]) == pytest.approx(share)
    assert "world model" in emotions.table([entry])[2]


def test_emotions_are_drawn_evenly_and_the_world_model_alone_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emotions.run("memorised", "SFT classifier", 0, tmp_path)  # makes the base
    (base,) = tmp_path.iterdir()
    module: Any = beliefs.method_of("daily_dialog", "SFT classifier", str(base), copies=True)
    module.configure_model()
    states = emotions.by_emotion(module, emotions.data_of("daily_dialog", 0).records("train"))
    assert all({s.belief[0] for s in some if s.belief} == {name} for name, some in states.items())
    assert len(states["no emotion"]) > 2 * len(states["happiness"])
    two = {name: states[name] for name in ("no emotion", "happiness")}
    seen: Counter[str] = Counter()
    losses = module.world.losses

    def counted(some: Any, *args: Any, **options: Any) -> Any:
        seen.update(state.belief[0] for state in some)
        return losses(some, *args, **options)

    monkeypatch.setattr(module.world, "losses", counted)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    emotions.learn(module, two, 10, 0)
    assert 20 < seen["happiness"] < 60, "80 states are drawn, half of them happy"
    moved = {n for n, p in module.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert all(emotions.adapter_of(name) == emotions.WORLD for name in moved)
