"""`python -m zoo study`: every cell once, whoever works and whoever dies; no mixed settings."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState
from running import refusal, start, tiny
from torch.utils.tensorboard import SummaryWriter

from zoo.cli import study_cells
from zoo.cli.study import Study
from zoo.cli.study_cells import KilledError, cell_name
from zoo.cli.study_queue import run_next
from zoo.errors import InputError
from zoo.study import StudyCell, StudyResults

LR, SIZE = "model.optimizer.lr", "data.batch_size"
SHORT = {
    "trainer.max_steps": 8,
    "trainer.val_check_interval": 4,
    "data.max_train": 16,
    "data.max_val": 2,
    "model.max_generated": 1,
    "checkpoint.every_n_train_steps": 1,
}


def settings(folder: Path, **changed: Any) -> dict[str, Any]:
    """A study of two learning rates and two batch sizes of a tiny SFT."""
    return {
        "fit": list(tiny("sft")[1::2]),
        "vary": {LR: [1e-3, 1e-2], SIZE: [2, 4]},
        "measure": {"answers": "val/speak_loss"},
        "folder": str(folder / "small"),
        "fixed": SHORT,
        **changed,
    }


def written(folder: Path, **changed: Any) -> str:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(settings(folder, **changed), sort_keys=False))
    return str(path)


# -- the queue, with fits that only log ---------------------------------------------------------


class Fits:
    """Takes the place of the processes: a fit logs 1 + ln(lr)^2; some are killed, or fail."""

    def __init__(self) -> None:
        self.run: list[str] = []
        self.kills: dict[str, int] = {}
        self.lock = threading.Lock()

    def __call__(self, verb: str, folder: Path, given: list[str], lock: int) -> None:
        with self.lock:
            self.run.append(folder.name)
            left = self.kills.get(folder.name, 0)
            self.kills[folder.name] = left - 1
        if left > 0:
            raise KilledError(folder.name)
        time.sleep(0.05)
        lr = float(given[given.index(f"--{LR}") + 1]) if verb == "fit" else 1.0
        with SummaryWriter(str(folder)) as board:
            board.add_scalar("val/speak_loss", 9.0, 3)
            board.add_scalar("val/speak_loss", 1.0 + math.log(lr) ** 2, 7)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    made = Fits()
    monkeypatch.setattr(study_cells, "_run", made)
    monkeypatch.setattr("zoo.cli.study.HEARTBEAT", 1)
    monkeypatch.setattr("zoo.cli.study_queue.HEARTBEAT", 1)
    return made


def test_workers_share_the_grid(tmp_path: Path, fits: Fits) -> None:
    """Two studies of two threads each on one storage run each cell once; results hold them all."""
    extra = [{LR: 1e-3, SIZE: 8}]
    made = [Study(**settings(tmp_path, parallel=2, extra=extra, base=True)) for _ in range(2)]
    threads = [threading.Thread(target=study.run) for study in made]
    for thread in threads:
        thread.start()
        time.sleep(0.3)
    for thread in threads:
        thread.join()
    cells = [{LR: lr, SIZE: size} for lr in (1e-3, 1e-2) for size in (2, 4)] + extra
    assert sorted(fits.run) == sorted(["base", *map(cell_name, cells)])
    results = StudyResults.load(tmp_path / "small" / "results.json")
    assert [cell.settings for cell in results.cells] == cells
    last = 1.0 + math.log(1e-3) ** 2
    assert results.cells[0].measures["answers"] == pytest.approx(last)
    assert results.cells[0].curves["answers"] == [[4, 9.0], [8, pytest.approx(last)]]
    assert results.base["answers"] == pytest.approx(1.0)


def test_a_killed_fit_is_taken_up_again(tmp_path: Path, fits: Fits) -> None:
    name = cell_name({LR: 1e-3, SIZE: 2})
    fits.kills = {name: 2}
    Study(**settings(tmp_path)).run()
    assert (fits.run.count(name), len(fits.run)) == (3, 6)
    fits.kills = {name: 99}
    with pytest.raises(InputError, match=rf"cell {name}: its fit was killed 4 times"):
        Study(**settings(tmp_path / "other")).run()


def test_a_cell_of_a_dead_worker_is_taken_up_again(tmp_path: Path, fits: Fits) -> None:
    """Its heartbeat is old: the cell waits again, and a worker that waits for it runs it."""
    study = Study(**settings(tmp_path))
    trial = study.open().ask()
    for key, texts in study._choices().items():
        trial.suggest_categorical(key, texts)
    trial.storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    study.run()
    assert len(fits.run) == len(set(fits.run)) == 4


def test_a_worker_that_was_taken_for_dead_goes_on(
    tmp_path: Path, fits: Fits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its signs of life came late, its trial has failed: the cell counts, and is not run again."""
    study = Study(**settings(tmp_path))
    opened, run = study.open(), study._cell
    storage, study_id = opened._storage, opened._study_id
    failed: list[str] = []

    def stalled(name: str, cell: dict[str, Any], verb: str) -> StudyCell:
        found = run(name, cell, verb)
        if name not in failed and len(failed) < 2:
            failed.append(name)
            (trial,) = storage.get_all_trials(study_id, states=(TrialState.RUNNING,))
            storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return found

    monkeypatch.setattr(study, "_cell", stalled)
    study.run()
    assert len(failed) == 2
    assert len(fits.run) == len(set(fits.run)) == 4
    assert len(StudyResults.load(tmp_path / "small" / "results.json").cells) == 4


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.FAIL])
def test_a_trial_that_another_ends_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: TrialState
) -> None:
    """What was told first stays, also where it is told between the look and the word."""
    study = Study(**settings(tmp_path)).open()
    end = study._storage.set_trial_state_values

    def beaten(trial_id: int, *told: Any, **also: Any) -> bool:
        end(trial_id, state, [2.0] if state == TrialState.COMPLETE else None)
        return end(trial_id, *told, **also)

    def run(trial: optuna.Trial) -> float:
        monkeypatch.setattr(study._storage, "set_trial_state_values", beaten)
        return 1.0

    run_next(study, run)
    (ended,) = study.get_trials(states=(TrialState.COMPLETE, TrialState.FAIL))
    assert (ended.state, ended.value) == (state, 2.0 if state == TrialState.COMPLETE else None)


def test_an_error_is_not_lost_where_another_ends_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(**settings(tmp_path)).open()
    end = study._storage.set_trial_state_values

    def beaten(trial_id: int, *told: Any, **also: Any) -> bool:
        end(trial_id, TrialState.FAIL)
        return end(trial_id, *told, **also)

    def run(trial: optuna.Trial) -> float:
        monkeypatch.setattr(study._storage, "set_trial_state_values", beaten)
        raise InputError("its config is wrong")

    with pytest.raises(InputError, match="its config is wrong"):
        run_next(study, run)


def test_a_finished_study_runs_nothing_again(tmp_path: Path, fits: Fits) -> None:
    Study(**settings(tmp_path)).run()
    before = (tmp_path / "small" / "results.json").read_text()
    Study(**settings(tmp_path, parallel=3)).run()
    assert len(fits.run) == 4
    assert (tmp_path / "small" / "results.json").read_text() == before


def test_a_sampler_chooses_among_the_values(tmp_path: Path, fits: Fits) -> None:
    sampler = optuna.samplers.TPESampler(seed=0)
    vary = {LR: [10.0**-k for k in range(6)], SIZE: [2, 4]}
    Study(**settings(tmp_path, sampler=sampler, trials=9, vary=vary)).run()
    results = StudyResults.load(tmp_path / "small" / "results.json")
    assert len(results.cells) == len(set(fits.run)) <= 9
    assert {cell.settings[LR] for cell in results.cells} <= set(vary[LR])


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"fixed": {**SHORT, "trainer.max_steps": 9}}, "fixed.trainer.max_steps 8, now it is 9"),
        ({"fixed": {**SHORT, "trainer.devices": 1}}, "fixed.trainer.devices not set, now it is 1"),
        ({"vary": {LR: [1e-3], SIZE: [2, 4]}}, "vary.model.optimizer.lr"),
        ({"measure": {"answers": "val/x"}}, 'measure.answers "val/speak_loss", now it is "val/x"'),
        ({"fit": list(tiny("sft_thought")[1::2])}, "learn_thought false, now it is true"),
    ],
)
def test_changed_settings_are_refused_by_name(
    tmp_path: Path, fits: Fits, changed: dict[str, Any], name: str
) -> None:
    """Also what a config file of the fits says; nothing is run."""
    Study(**settings(tmp_path)).run()
    with pytest.raises(InputError) as refused:
        Study(**settings(tmp_path, **changed)).run()
    assert name in str(refused.value)
    assert str(tmp_path / "small") in str(refused.value)
    assert len(fits.run) == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"vary": {}}, "vary: empty"),
        ({"vary": {LR: []}}, f"vary.{LR}: a list of at least one value"),
        ({"fixed": {LR: 1}}, f"fixed.{LR}: is varied too"),
        ({"extra": [{LR: 1}]}, f"extra.0: needs a value for each of {LR}, {SIZE}"),
        ({"minimise": {"answer": 1.0}}, "minimise.answer: no such measure; did you mean 'answers'"),
        ({"trials": 3}, "sampler and trials belong together"),
        ({"parallel": 0}, "parallel: 0 is not above 0"),
        ({"fit": ["sftt"]}, "no such config file; did you mean 'sft'"),
        ({"folde": "x"}, "no such key 'folde'; did you mean 'folder'"),
        ({"parallel": "two"}, "parallel: 'two' does not fit"),
    ],
)
def test_bad_studies_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    changed: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, **changed)
    given = ("--config", path)
    assert message in refusal(capfd, tmp_path, verb="study", given=given)


def test_a_measure_that_no_fit_logs_is_named(tmp_path: Path, fits: Fits) -> None:
    study = Study(**settings(tmp_path, measure={"answers": "val/spek_loss"}))
    with pytest.raises(InputError, match=r"measure.answers: .* did you mean 'val/speak_loss'"):
        study.run()


def test_names_of_cells_differ() -> None:
    assert cell_name({"data.ratio": 0.5, LR: 1e-3}) == "ratio=0.5,lr=0.001"
    assert cell_name({"a.lr": 1, "b.lr": 2}) == "a.lr=1,b.lr=2"
    long = [cell_name({"k": "a/b" * 50 + end}) for end in ("1", "2")]
    assert len(set(long)) == 2
    assert all(len(name) < 120 and "/" not in name for name in long)


def test_results_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(InputError, match="no such file"):
        StudyResults.load(path)
    path.write_text(json.dumps({"cells": 3}))
    with pytest.raises(InputError, match="no results of a study"):
        StudyResults.load(path)
    found = StudyResults((StudyCell({"k": 1}, {"m": 2.0}, {"m": [(1, 2.0)]}),), {"m": 3.0})
    found.save(path)
    assert StudyResults.load(path).cells[0].measures == {"m": 2.0}


# -- real fits, killed -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_study_killed_twice_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """First the whole study dies, then a fit alone: same losses as without, bit for bit."""
    for name in ("quiet", "killed"):
        (tmp_path / name).mkdir()
        config = written(tmp_path / name, vary={LR: [1e-2], SIZE: [2]})
        cell = tmp_path / name / "small" / "cells" / cell_name({LR: 1e-2, SIZE: 2})
        study = start("study", "--config", config, cwd=tmp_path, start_new_session=True)
        if name == "killed":
            _wait_for(cell / "checkpoints" / "last.ckpt")
            os.killpg(study.pid, signal.SIGKILL)
            study.communicate()
            study = start("study", "--config", config, cwd=tmp_path)
            fits = _wait_for_fit(study.pid)
            os.kill(fits[0], signal.SIGKILL)
        _, err = study.communicate(timeout=300)
        assert study.returncode == 0, err
    quiet, killed = (
        StudyResults.load(tmp_path / name / "small" / "results.json")
        for name in ("quiet", "killed")
    )
    assert killed == quiet


def _wait_for(path: Path) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.01)


def _wait_for_fit(pid: int) -> list[int]:
    """Return the processes that a study has started, once there is one."""
    end = time.monotonic() + 120
    while True:
        texts = [p.read_text() for p in Path(f"/proc/{pid}/task").glob("*/children")]
        if children := [int(word) for text in texts for word in text.split()]:
            return children
        assert time.monotonic() < end, "no fit is started"
        time.sleep(0.01)
