"""`python -m zoo study`: every cell once, whoever works and whoever dies."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from running import command, last, start
from small_study import LR, SHORT, SIZE, Fits, settings, written
from torch.utils.tensorboard import SummaryWriter

from zoo.cli import study_cells
from zoo.cli.study import Study
from zoo.cli.study_cells import KilledError, cell_name
from zoo.cli.study_queue import run_next
from zoo.errors import InputError
from zoo.study import StudyCell, StudyResults

# -- the queue, with fits that only log ---------------------------------------------------------


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
    loss = 1.0 + math.log(1e-3) ** 2
    assert results.cells[0].measures["answers"] == pytest.approx(loss)
    assert results.cells[0].curves["answers"] == [[4, 9.0], [8, pytest.approx(loss)]]
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


@pytest.mark.parametrize("where", ["gradient", "loss"])
def test_a_diverged_cell_is_left_out_and_named(tmp_path: Path, fits: Fits, where: str) -> None:
    """The study finishes, without that cell; it is not run again."""
    name = cell_name({LR: 1e-2, SIZE: 2})
    fits.diverges = {name: where}
    for _ in range(2):
        lines = Study(**settings(tmp_path)).run()
        assert f"diverged    left out: {name}" in lines
        assert len(fits.run) == len(set(fits.run)) == 4
    results = StudyResults.load(tmp_path / "small" / "results.json")
    kept = [{LR: 1e-3, SIZE: 2}, {LR: 1e-3, SIZE: 4}, {LR: 1e-2, SIZE: 4}]
    assert [cell.settings for cell in results.cells] == kept
    assert results.diverged == (name,)


def test_a_diverged_cell_is_one_of_those_that_a_sampler_chooses(tmp_path: Path, fits: Fits) -> None:
    sampler = optuna.samplers.RandomSampler(seed=0)
    vary = {LR: [1e-3, 1e-2], SIZE: [2]}
    fits.diverges = {cell_name({LR: 1e-2, SIZE: 2}): "loss"}
    study = Study(**settings(tmp_path, sampler=sampler, trials=9, vary=vary))
    study.run()
    trials = study.open().get_trials()
    assert len(trials) == 9
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}


# -- real fits, killed or diverged -------------------------------------------------------------


@pytest.mark.slow
def test_a_study_ends_where_a_fit_diverges(tmp_path: Path) -> None:
    config = written(tmp_path, vary={LR: [1e-3, 1e30], SIZE: [2]})
    study = command("study", "--config", config, cwd=tmp_path)
    assert study.returncode == 0, study.stderr
    diverged = cell_name({LR: 1e30, SIZE: 2})
    assert f"diverged    left out: {diverged}" in study.stdout
    assert "the loss diverged" in (tmp_path / "small" / "cells" / f"{diverged}.log").read_text()


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


@pytest.mark.slow
@pytest.mark.parametrize("interval", [4, 8])
def test_a_fit_that_was_killed_in_its_last_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interval: int
) -> None:
    """No fit goes back to it from a checkpoint of the last step: the cell is run anew."""
    fixed = {**SHORT, "trainer.val_check_interval": interval}
    vary = {LR: [1e-2], SIZE: [2]}
    run, cell = study_cells._run, cell_name({LR: 1e-2, SIZE: 2})
    checkpoints = []

    def killed(verb: str, folder: Path, given: list[str], lock: int) -> None:
        checkpoints.append(last(folder).exists())
        run(verb, folder, given, lock)
        if len(checkpoints) == 1:  # as if it was killed behind the checkpoint of the last step
            for file in folder.glob("events.out.tfevents.*"):
                file.unlink()
            if interval == 4:
                with SummaryWriter(str(folder)) as board:
                    board.add_scalar("val/speak_loss", 9.0, 3)
            raise KilledError(folder.name)

    monkeypatch.setattr(study_cells, "_run", killed)
    Study(**settings(tmp_path, vary=vary, fixed=fixed)).run()
    assert checkpoints == [False, True, False]
    (found,) = StudyResults.load(tmp_path / "small" / "results.json").cells
    assert [step for step, _ in found.curves["answers"]] == list(range(interval, 9, interval))
    assert (tmp_path / "small" / "cells" / f"{cell}.json").is_file()


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
