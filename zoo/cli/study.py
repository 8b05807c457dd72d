"""`python -m zoo study`: many fits of one config, shared by any number of processes and machines.

Each cell of the grid waits in a queue until a worker takes it; that of a worker who died waits
again and goes on from its checkpoint. Every worker runs this same command; `parallel` of them are
threads of one process.
"""

from __future__ import annotations

import itertools
import json
import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from zoo.cli.argument_errors import explain
from zoo.cli.config_files import find, found, read, read_config
from zoo.cli.parser import ComplaintError, Parser
from zoo.cli.study_cells import DivergedError, KilledError, cell_name, locked, run_cell
from zoo.cli.study_queue import HEARTBEAT, QUEUED, open_queue, requeue_failed, run_next
from zoo.errors import InputError, check_counts, nearest
from zoo.study import StudyCell, StudyReport, StudyResults

KILLS = 3  # a fit that is killed more often than this in one worker ends the study


class Study:
    """A study: what is varied, what is measured, and where it is kept.

    Args:
        fit: Config files of every fit, in order; later ones override earlier ones.
        vary: Key of the fit -> its values; the grid is every combination.
        measure: Name of a number -> name under which the fit logs it.
        folder: Where the fits, the results and the report are written.
        fixed: Other keys of the fit that the study sets.
        extra: More cells, each a value for every varied key, for example other seeds.
        base: Also measure the model that every fit starts from, before its first step.
        storage: URL of Optuna's storage; None for a SQLite file in the folder.
        parallel: Fits that this process runs at a time.
        sampler: Chooses cells among the values; None runs the whole grid.
        trials: Cells that a sampler chooses.
        minimise: Weight of each measure in what the sampler makes small.
        report: What is written of the results.
    """

    def __init__(
        self,
        fit: list[str],
        vary: dict[str, list[Any]],
        measure: dict[str, str],
        folder: str,
        fixed: dict[str, Any] | None = None,
        extra: list[dict[str, Any]] | None = None,
        base: bool = False,
        storage: str | None = None,
        parallel: int = 1,
        sampler: BaseSampler | None = None,
        trials: int | None = None,
        minimise: dict[str, float] | None = None,
        report: StudyReport | None = None,
    ) -> None:
        self.configs = [str(find(path)) for path in fit]
        self.vary, self.measure, self.folder = vary, measure, Path(folder)
        self.fixed, self.extra, self.base = fixed or {}, extra or [], base
        self.url = storage or f"sqlite:///{self.folder.absolute() / 'study.db'}"
        self.parallel, self.sampler, self.trials = parallel, sampler, trials
        self.minimise = minimise or dict.fromkeys(measure, 1.0)
        self.report = report
        self._check()

    def _check(self) -> None:
        """Refuse settings that say nothing, or contradict each other."""
        check_counts("", {"parallel": self.parallel, "max_trials": self.trials})
        for name in ("vary", "measure"):
            if not getattr(self, name):
                raise InputError(f"{name}: empty; a study needs at least one")
        for key, values in self.vary.items():
            if not isinstance(values, list) or not values:
                raise InputError(f"vary.{key}: a list of at least one value is needed")
            if key in self.fixed:
                raise InputError(f"fixed.{key}: is varied too; leave it out of one")
        for i, cell in enumerate(self.extra):
            if cell.keys() != self.vary.keys():
                raise InputError(f"extra.{i}: needs a value for each of {', '.join(self.vary)}")
        for name in self.minimise.keys() - self.measure.keys():
            raise InputError(f"minimise.{name}: no such measure; {nearest(name, self.measure)}")
        if (self.sampler is None) != (self.trials is None):
            raise InputError("sampler and trials belong together; give both, or none for the grid")

    # -- what it is ----------------------------------------------------------------------------

    def grid(self) -> list[dict[str, Any]]:
        """Return the settings of every cell that does not wait for a sampler."""
        cells = itertools.product(*self.vary.values()) if self.sampler is None else ()
        return [*(dict(zip(self.vary, cell, strict=True)) for cell in cells), *self.extra]

    def settings(self) -> dict[str, str]:
        """Return every setting that a result depends on, as text by its name."""
        given: dict[str, str] = {}
        for config in self.configs:
            own: dict[str, list[str]] = {}
            for entry in read_config(Path(config)):
                own.setdefault(".".join(entry.path), []).append(entry.value)
            given |= {key: ", ".join(values) for key, values in own.items()}  # of a list, each
        whole = {"extra": self.extra, "base": self.base, "trials": self.trials}
        whole["sampler"] = type(self.sampler).__name__
        for name in ("fixed", "vary", "measure", "minimise"):
            whole |= {f"{name}.{key}": value for key, value in getattr(self, name).items()}
        return given | {key: json.dumps(value) for key, value in whole.items()}

    def open(self) -> optuna.Study:
        """Open the study in its storage, and put the cells in its queue that are not there.

        Raises:
            InputError: It was begun with other settings; the message names one.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / "study.lock"):  # two workers that start at once
            study = open_queue(self.url, self.folder.name, self.sampler)
            _check_settings(study.user_attrs.get("settings"), self.settings(), self.folder)
            study.set_user_attr("settings", self.settings())
            for cell in self.grid():
                text = {key: json.dumps(value) for key, value in cell.items()}
                study.enqueue_trial(text, {QUEUED: text}, skip_if_exists=True)
        return study

    # -- the work ------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """Run every cell that is not done, and write results and report; return what to say."""
        study = self.open()
        if self.base:
            self._cell("base", {}, "validate")
        stop = threading.Event()
        with ThreadPoolExecutor(self.parallel) as pool:
            workers = [pool.submit(self._work, study, stop) for _ in range(self.parallel)]
            try:
                wait(workers, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()  # one failed: the others end after their cell
        for worker in workers:
            worker.result()
        results = self.results(study)
        path = self.folder / "results.json"
        results.save(path)
        lines = [f"results     {path}: {len(results.cells)} cells"]
        if results.diverged:
            lines.append(f"diverged    left out: {'; '.join(results.diverged)}")
        if self.report is not None:
            lines += [f"report      {file}" for file in self.report.write(results, self.folder)]
        return lines

    def _work(self, study: optuna.Study, stop: threading.Event) -> None:
        """Take cells until none is left; wait for those of other workers, who may die."""
        kills = Counter[str]()
        while not stop.is_set():
            optuna.storages.fail_stale_trials(study)
            requeue_failed(study)
            left = Counter(trial.state for trial in study.get_trials(deepcopy=False))
            ended = left[TrialState.COMPLETE] + left[TrialState.PRUNED]
            taken = ended + left[TrialState.RUNNING] - len(self.extra)
            if left[TrialState.WAITING] or taken < (self.trials or -len(self.extra)):
                run_next(study, partial(self._trial, kills=kills))
            elif left[TrialState.RUNNING]:
                stop.wait(HEARTBEAT / 10)
            else:
                return

    def _trial(self, trial: optuna.Trial, kills: Counter[str]) -> float:
        """Run the cell of a trial; return what is minimised.

        Raises:
            TrialPruned: The fit diverged, or no cell is left.
        """
        if self.sampler is None and QUEUED not in trial.user_attrs:
            raise optuna.TrialPruned  # another worker took the last cell of the queue
        choices = self._choices()
        cell = {k: json.loads(trial.suggest_categorical(k, choices[k])) for k in self.vary}
        name = cell_name(cell)
        try:
            found = self._cell(name, cell, "fit")
        except KilledError:
            kills[name] += 1
            if kills[name] > KILLS:
                raise InputError(f"cell {name}: its fit was killed {KILLS + 1} times") from None
            raise
        except DivergedError:
            raise optuna.TrialPruned from None
        value = sum(weight * found.measures[key] for key, weight in self.minimise.items())
        if not math.isfinite(value):
            raise optuna.TrialPruned
        trial.set_user_attr("cell", asdict(found))
        return value

    def _choices(self) -> dict[str, list[str]]:
        """Return all values of each key as text: those of the grid and of the extra cells."""
        return {
            key: list(dict.fromkeys(map(json.dumps, [*values, *(c[key] for c in self.extra)])))
            for key, values in self.vary.items()
        }

    def _cell(self, name: str, cell: Mapping[str, Any], verb: str) -> StudyCell:
        folder = self.folder / "cells" / name
        return run_cell(folder, self.configs, cell, self.fixed, self.measure, verb)

    def results(self, study: optuna.Study) -> StudyResults:
        """Return what was measured, a cell once, and which cells diverged."""
        trials = study.get_trials(deepcopy=False)
        done = [t for t in trials if t.state == TrialState.COMPLETE]
        found = [StudyCell(**trial.user_attrs["cell"]) for trial in done]
        cells = {cell_name(cell.settings): cell for cell in found}
        order = {cell_name(cell): i for i, cell in enumerate(self.grid())}
        names = sorted(cells, key=lambda name: order.get(name, len(order)))
        pruned = [t.params for t in trials if t.state == TrialState.PRUNED and t.params]
        left_out = [{key: json.loads(params[key]) for key in self.vary} for params in pruned]
        diverged = dict.fromkeys(map(cell_name, left_out))  # a sampler may take a cell twice
        base = self._cell("base", {}, "validate").measures if self.base else {}
        return StudyResults(tuple(cells[name] for name in names), base, tuple(diverged))


def _check_settings(old: Mapping[str, str] | None, new: Mapping[str, str], folder: Path) -> None:
    """Refuse a study that was begun with other settings."""
    changed = sorted(k for k in {*(old or new), *new} if (old or new).get(k) != new.get(k))
    if changed:
        assert old is not None
        key, *others = changed
        more = f" (also changed: {', '.join(others)})" if others else ""
        raise InputError(
            f"{folder}: the study was begun with {key} {old.get(key, 'not set')}, now it is "
            f"{new.get(key, 'not set')}{more}; set it back, or give the study another folder"
        )


def run_study(args: Sequence[str]) -> list[str]:
    """Run `python -m zoo study`; return what to say."""
    return study_of(args).run()


def study_of(args: Sequence[str]) -> Study:
    """Return the study that a command line describes.

    Args:
        args: What stands behind the verb.

    Raises:
        InputError: A setting is wrong.
    """
    parser = Parser(prog="python -m zoo study", allow_abbrev=False)
    parser.add_argument("-c", "--config", action="config", help="A YAML file of the study.")
    parser.add_class_arguments(Study)
    args = found(args)
    try:
        given = parser.parse_args(args)
        made = parser.instantiate_classes(given)
    except ComplaintError as complaint:
        dests = [action.dest for action in parser._actions if action.dest != "help"]
        raise InputError(explain(str(complaint), list(read(args)), dests, {})) from complaint
    settings = {key: value for key, value in vars(made).items() if key != "config"}
    return Study(**settings)
