"""The queue of a study's cells, in Optuna's storage, which any number of processes share.

A worker gives signs of life while it runs a cell. Where they stop it has died: its trial fails, and
the cell waits in the queue again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import TrialState

from zoo.cli.study_cells import KilledError

HEARTBEAT = 5  # seconds between signs of life of a worker
QUEUED = "queued"  # attribute of a trial whose cell was put into the queue


def open_queue(url: str, name: str, sampler: BaseSampler | None) -> optuna.Study:
    """Open the queue of this name in a storage; it is made if it is not there."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    storage = optuna.storages.RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None,
        heartbeat_interval=HEARTBEAT,
        grace_period=3 * HEARTBEAT,
    )
    return optuna.create_study(
        storage=storage, sampler=sampler, study_name=name, load_if_exists=True
    )


def run_next(study: optuna.Study, run: Callable[[optuna.Trial], float]) -> None:
    """Take the next trial, run it with signs of life, and tell how it ended.

    Two workers can hold one trial: where signs of life came late, others took this worker for dead
    and queued its cell again; and SQLite may give a waiting trial to two who ask at once. The
    cell's lock lets one run it, the other finds what was measured, and who tells first has told.

    Args:
        study: The queue.
        run: Runs a trial and returns what is minimised; a fit that was killed fails its trial, one
            that diverged prunes it.
    """
    trial, state, value = study.ask(), TrialState.FAIL, None
    try:
        with get_heartbeat_thread(trial._trial_id, study._storage):
            value, state = run(trial), TrialState.COMPLETE
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except (KilledError, UpdateFinishedTrialError):
        pass  # failed, and its cell is queued again; or another worker has told
    finally:
        with suppress(UpdateFinishedTrialError):
            study.tell(trial, value, state, skip_if_finished=True)


def requeue_failed(study: optuna.Study) -> None:
    """Put cells back into the queue that failed and nobody has taken again."""
    trials = study.get_trials(deepcopy=False)
    alive = [_cell_of(t) for t in trials if t.state != TrialState.FAIL]
    for trial in trials:
        cell = _cell_of(trial)
        if trial.state == TrialState.FAIL and cell and cell not in alive:
            alive.append(cell)
            study.enqueue_trial(cell, {QUEUED: cell})


def _cell_of(trial: optuna.trial.FrozenTrial) -> dict[str, str]:
    return trial.user_attrs.get(QUEUED) or trial.params
