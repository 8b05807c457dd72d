"""LaHoRe and Rabtriever beside the cheap rankers: R@1, R@3, MRR@10, nDCG@10, an entry per row.

    python -m benchmarks.ranking --json benchmarks/results/rationale.json
    python -m benchmarks.ranking --json FILE --tasks esconv --rows "LaHoRe, SFT" --seeds 0 1
    python -m benchmarks.ranking --json FILE --table

ESConv: training and test queries are drawn from all dialogues of their splits; a query is the last
turns of its history. LaHoRe learns from one negative per query (the paper: all), because a CPU has
to get through; Rabtriever's rows from all, with the SFT row's export in `--folder` as their
teacher, whose states of the (equal) training batches are made once for all of these rows. Cranfield
and MS MARCO: zero-shot over the best documents of BM25. Needs `ZOO_DATA`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import lightning

import datamodules
import zoo
from benchmarks import trials
from benchmarks.ranking.baselines import measures, table
from benchmarks.ranking.simple_rankers import RANKERS
from benchmarks.training import GivenRecords, quiet_trainer
from zoo.export import save
from zoo.methods.rabtriever.frozen_states import FrozenStates, PairStates
from zoo.ranking.metrics import ranked
from zoo.records import Ranking

TURNS = 3  # of the history in a query
WINDOW = {"document_tokens": 16, "max_length": 192}
LARGE = {"document_tokens": 192, "max_length": 384}  # abstracts and passages
PAIR = {"negatives": 1, "optimizer": {"lr": 5e-5, "schedule": "cosine", "warmup_ratio": 0.1}}
STUDENT = {"optimizer": {"lr": 1e-3, "schedule": "cosine", "warmup_ratio": 0.1}}
TEACHER = "LaHoRe, SFT"
ROWS: dict[str, tuple[str, dict[str, Any], int]] = {  # class, arguments, queries per step
    "LaHoRe, zero-shot": ("LaHoRe", {}, 0),
    TEACHER: ("LaHoRe", PAIR, 4),
    "LaHoRe, DPO": ("LaHoRe", {**PAIR, "objective": "dpo"}, 4),
    "Rabtriever": ("Rabtriever", STUDENT, 2),
    "Rabtriever, no product": ("Rabtriever", {**STUDENT, "product": False}, 2),
    "Rabtriever, no MSE": ("Rabtriever", {**STUDENT, "mse": False}, 2),
    "Rabtriever, no KL": ("Rabtriever", {**STUDENT, "divergence": "none"}, 2),
    "Rabtriever, forward KL": ("Rabtriever", {**STUDENT, "divergence": "forward"}, 2),
    "Rabtriever, 1 layer": ("Rabtriever", {**STUDENT, "num_layers": 1}, 2),
    "Rabtriever, 3 layers": ("Rabtriever", {**STUDENT, "num_layers": 3}, 2),
}
CHEAP = ("random", "frequency", "bm25", "sentence")
TASKS = ("esconv", "cranfield", "msmarco")


class SharedStates(FrozenStates):
    """States of one teacher for all its students: equal batches are run once."""

    def __init__(self, slot: int, max_bytes: float) -> None:
        super().__init__(slot, max_bytes)
        self.seen: dict[Any, PairStates] = {}

    def pairs(self, lm: Any, heads: Any, tails: Any, *rest: Any) -> PairStates:
        """Return what the model makes of some pairs."""
        key = tuple(heads), tuple(tails)
        if key not in self.seen:
            self.seen[key] = super().pairs(lm, heads, tails, *rest)
        return self.seen[key]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rows that are missing, then print the table."""
    parser = trials.make_parser(__doc__, rows=[*CHEAP, *ROWS])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--train", type=int, default=240, help="training queries of LaHoRe")
    parser.add_argument("--distil", type=int, default=160, help="training queries of Rabtriever")
    parser.add_argument("--test", type=int, default=120, help="test queries of ESConv")
    parser.add_argument("--large", type=int, default=30, help="test queries of the other tasks")
    parser.add_argument("--depth", type=int, default=15, help="BM25's documents to rank again")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--folder", type=Path, default=Path("runs/rationale"), help="for teachers")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "task", "row", "seed")
    if not options.table:
        finished.run(jobs(options), partial(run_row, options=options, shared={}))
    print("\n".join(table(finished.entries)))


def jobs(options: argparse.Namespace) -> list[trials.Job]:
    """Return task, row and seed; what learns nothing runs with one seed."""
    wanted = []
    for seed, task, row in product(options.seeds, options.tasks, options.rows):
        learns = row in ROWS and ROWS[row][2] > 0
        alike = not learns and seed != options.seeds[0]
        apart = task != "esconv" and (learns or row == "frequency")
        if not alike and not apart:
            wanted.append((task, row, seed))
    return wanted


def read(task: str, split: str, options: argparse.Namespace) -> list[Ranking]:
    """Return the records of a task; those to be ranked are a fixed draw."""
    if task == "esconv":
        data: Any = datamodules.ESConvStrategies(trials.data_path("esconv"), max_turns=TURNS)
        records = data.records(split)
        count = options.test if split == "test" else len(records)
        return random.Random(0).sample(records, min(count, len(records)))
    if task == "cranfield":
        data = datamodules.Cranfield(trials.data_path("cranfield"), divide_queries=False)
    else:
        data = datamodules.BEIR(trials.data_path("beir_samples"), name=task)
    records = data.records("test")
    records = random.Random(0).sample(records, min(options.large, len(records)))
    scores = RANKERS["bm25"](records)
    return [shortened(*pair, options.depth) for pair in zip(records, scores, strict=True)]


def shortened(record: Ranking, scores: Sequence[float], depth: int) -> Ranking:
    """Return a record with the best documents of a ranking as its candidates."""
    best = ranked(dict(zip(record.pool, scores, strict=True)))[:depth]
    return replace(record, candidates=tuple(best))


def run_row(
    task: str, row: str, seed: int, options: argparse.Namespace, shared: dict[Path, SharedStates]
) -> trials.Entry:
    """Train if the row learns, rank the test queries; return its entry."""
    records = read(task, "test", options)
    start, trained, steps, cost = time.time(), None, 0, 0
    if row in CHEAP:
        given = {"train": read(task, "train", options)} if row == "frequency" else {}
        scores = RANKERS[row](records, **given)
    else:
        module = build(task, row, seed, options)
        if isinstance(module, zoo.Rabtriever):
            states = SharedStates(module.frozen.slot, 2**30)
            module.frozen = shared.setdefault(teacher(seed, options), states)
        steps = train(module, row, seed, options) if ROWS[row][2] else 0
        cost = sum(p.numel() for p in module.parameters() if p.requires_grad) if steps else 0
        if row == TEACHER and not teacher(seed, options).is_dir():
            save(module, teacher(seed, options))
        trained = time.time()
        scores = [s for i in range(0, len(records), 8) for s in module.scores(records[i : i + 8])]
    return {
        "task": task,
        "row": row,
        "ranker": row if seed == 0 else f"{row} (seed {seed})",
        "seed": seed,
        "backbone": options.backbone,
        "trained_on": (options.distil if "Rab" in row else options.train) if steps else 0,
        **measures(records, scores),
        "steps": steps,
        "trained_parameters": cost,
        "seconds": {
            "train": round((trained or start) - start),
            "rank": round(time.time() - (trained or start)),
        },
    }


def build(task: str, row: str, seed: int, options: argparse.Namespace) -> Any:
    """Return the module of a row, with its weights."""
    name, given, _ = ROWS[row]
    backbone = options.backbone
    if name == "Rabtriever":
        backbone, given = str(teacher(seed, options)), {**given, "template": "paper"}
        if not Path(backbone).is_dir():
            sys.exit(f"{row}: run the row {TEACHER!r} with seed {seed} first")
    lightning.seed_everything(seed, verbose=False)
    window = WINDOW if task == "esconv" else LARGE
    module = getattr(zoo, name)(backbone={"name": backbone}, **window, **given)
    module.configure_model()
    return module


def teacher(seed: int, options: argparse.Namespace) -> Path:
    """Return the folder of the teacher."""
    folder: Path = options.folder / f"{Path(options.backbone).name}-{options.train}-{seed}"
    return folder


def train(module: Any, row: str, seed: int, options: argparse.Namespace) -> int:
    """Train once over the training queries; return the number of steps."""
    name, given, per_step = ROWS[row]
    count = options.distil if name == "Rabtriever" else options.train
    records = read("esconv", "train", options)[:count]
    pairs = 1 + given.get("negatives", len(records[0].pool) - 1)
    data = GivenRecords(records, batch_size=per_step * pairs, seed=seed)
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(module, data)
    return int(trainer.global_step)
