"""One run goes through every stage; stopped anywhere, it goes on bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from running import last, load, main, scalars, tiny

from zoo.adapters import adapter_of

SCHEDULE = {
    **{"policy": 1, "world": 1, "reward": 1, "world_per_cycle": 1},
    **{"minibatches": 2, "interact_every": 1},
}
STEPS = 8  # S1, S2, S3, then a world step with a visit and two updates, twice
RUN = (
    *tiny("dreamcub"),
    *("--model.schedule", json.dumps(SCHEDULE)),
    *("--model.user", '{"kind": "scripted", "visits": 2}'),
    *("--data.max_train", "2", "--data.max_val", "1", "--data.batch_size", "1"),
    *("--trainer.max_steps", str(STEPS), "--trainer.val_check_interval", str(STEPS)),
    *("--checkpoint.every_n_train_steps", "1", "--checkpoint.save_top_k", "-1"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    main("fit", *RUN, "--trainer.default_root_dir", str(folder))
    return folder


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(v, theirs[k]) for k, v in ours.items())
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(ours == theirs)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6, 7])
def test_every_stage_resumes(whole: Path, step: int, tmp_path: Path) -> None:
    """After S1, S2, S3, a visit, and inside imagination: weights, replay, what was imagined."""
    middle = whole / "checkpoints" / f"step-{step}.ckpt"
    given = ("--config", str(whole / "config.yaml"), "--ckpt_path", str(middle))
    main("fit", *given, "--trainer.default_root_dir", str(tmp_path))
    wanted, found = load(last(whole)), load(last(tmp_path))
    for name in ("state_dict", "optimizer_states", "learning", "rng"):
        assert same(found[name], wanted[name]), name
    replay = found["learning"][0]["replay"]
    assert replay["opened"] == 4, "two visits of two dialogues"
    assert found["learning"][0]["buffer"]["replies"]


def test_what_is_logged(whole: Path) -> None:
    """Stage, terms of the bound, return, KL, entropy and value have curves."""
    tags = set(scalars(whole))
    wanted = {f"train/{n}_loss" for n in ("speak", "belief", "observation", "kl", "reward")}
    wanted |= {f"train/{n}_loss" for n in ("policy", "value", "graded", "met")}
    wanted |= {f"imagined/{n}" for n in ("return", "reward", "kl", "entropy", "value")}
    assert {"train/stage", "visit/reward", "imagined/disagreement", *wanted} <= tags


def test_full_copies_go_through_every_stage(tmp_path: Path) -> None:
    """Three copies instead of adapters: each moves, the base stays, a run resumes bit for bit."""
    copies = ("--model.full_copies", "true", "--model.backbone.lora", "null")
    main("fit", *RUN, *copies, "--trainer.default_root_dir", str(tmp_path / "whole"))
    wanted = load(last(tmp_path / "whole"))
    first, state = load(tmp_path / "whole" / "checkpoints" / "step-1.ckpt"), wanted["state_dict"]
    moved = {n for n, value in state.items() if not torch.equal(value, first["state_dict"][n])}
    assert {adapter_of(name) for name in moved} == {"policy", "world_model", "critic", None}
    assert {n for n in moved if adapter_of(n) is None} == {
        "reward_head.weight",
        "value_head.weight",
    }
    middle = tmp_path / "whole" / "checkpoints" / "step-5.ckpt"
    given = ("--config", str(tmp_path / "whole" / "config.yaml"), "--ckpt_path", str(middle))
    main("fit", *given, "--trainer.default_root_dir", str(tmp_path / "rest"))
    assert same(load(last(tmp_path / "rest"))["state_dict"], state)
