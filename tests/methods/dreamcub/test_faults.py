"""Killed in imagination, in a visit or in any stage, a run goes on bit for bit."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from methods.dreamcub.broken import KILL_IN
from methods.dreamcub.test_resume import same
from process_pair import SHARDED, ProcessPair
from running import last, load, main, scalars, start, tiny

SCHEDULE = {
    **{"policy": 2, "world": 2, "reward": 2, "world_per_cycle": 1},
    **{"minibatches": 2, "interact_every": 1},
}
STEPS = 12  # two of S1, S2 and S3, then twice a world step with a visit and two updates
RUN = (
    *tiny("dreamcub"),
    *("--model", "methods.dreamcub.broken.Killed"),
    *("--model.schedule", json.dumps(SCHEDULE)),
    *("--model.user", '{"kind": "scripted", "visits": 2}'),
    *("--data.max_train", "2", "--data.max_val", "1", "--data.batch_size", "1"),
    *("--trainer.max_steps", str(STEPS), "--trainer.val_check_interval", str(STEPS)),
    *("--checkpoint.every_n_train_steps", "1", "--checkpoint.save_top_k", "-1"),
)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The last checkpoint of a run that nobody kills."""
    folder = tmp_path_factory.mktemp("unbroken")
    main("fit", *RUN, "--trainer.default_root_dir", str(folder))
    return load(last(folder))


@pytest.mark.parametrize(
    ("place", "step"),
    [
        pytest.param("step", 1, marks=pytest.mark.slow, id="S1"),
        pytest.param("step", 3, marks=pytest.mark.slow, id="S2"),
        pytest.param("step", 5, marks=pytest.mark.slow, id="S3"),
        pytest.param("visit", 9, id="visit"),
        pytest.param("dream", 10, marks=pytest.mark.slow, id="imagination"),
        pytest.param("step", 11, marks=pytest.mark.slow, id="S4"),
    ],
)
def test_killed_runs_go_on(
    place: str,
    step: int,
    unbroken: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything that a run remembers is that of a run which was not killed."""
    folder, again = tmp_path / "run", tmp_path / "again"
    monkeypatch.setenv(KILL_IN, f"{place}:{step}")
    process = start("fit", *RUN, "--trainer.default_root_dir", str(folder), cwd=tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, err[-2000:]
    monkeypatch.delenv(KILL_IN)
    left = load(last(folder))
    assert left["global_step"] == step
    turns = len(left["learning"][0]["replay"]["kept"])
    assert (turns > 0) == (step > 6), "the first visit is kept, the second is not yet"
    given = ("--config", str(folder / "config.yaml"), "--ckpt_path", str(last(folder)))
    main("fit", *given, "--trainer.default_root_dir", str(again))
    found = load(last(again))
    for name in ("state_dict", "optimizer_states", "learning", "rng"):
        assert same(found[name], unbroken[name]), name
    assert found["learning"][0]["replay"]["opened"] == 4


def test_a_judge_that_fails_in_one_process_does_not_hang_the_other(
    tmp_path: Path, pair: ProcessPair
) -> None:
    """Sharded weights are gathered by both, so both run the passes that grades are for."""
    schedule = json.dumps({**SCHEDULE, "policy": 0, "world": 0, "reward": 0})
    run = (*RUN, "--model", "methods.dreamcub.broken.HalfJudged", *SHARDED)
    short = ("--trainer.max_steps", "4", "--trainer.val_check_interval", "4")
    data = ("--data.max_train", "4", "--model.schedule", schedule)
    pair.run("fit", *run, *short, *data, "--trainer.default_root_dir", str(tmp_path))
    assert "train/graded_loss" in scalars(tmp_path)
