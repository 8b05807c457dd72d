"""Baselines of the ranking tasks: R@1, R@3, MRR@10, nDCG@10 with bootstrap intervals over queries.

    python -m benchmarks.ranking.baselines --json benchmarks/results/rankers.json
    python -m benchmarks.ranking.baselines cranfield --rankers bm25 --runs runs --json FILE

With `--runs` the best 100 documents of each query are written in trec_eval's run format: the
candidates for a method that ranks again (`datamodules.BEIR(run=FILE)`). Needs `ZOO_DATA`, but for
`sample`.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import datamodules
from benchmarks import trials
from benchmarks.ranking.simple_rankers import RANKERS, Scores
from zoo.errors import InputError
from zoo.ranking.metrics import bootstrap, mean_scores, query_scores, ranked
from zoo.records import Ranking

TASKS: dict[str, Callable[[str], datamodules.ZooDataModule]] = {
    "sample": lambda _: datamodules.BEIR(),
    "esconv": lambda folder: datamodules.ESConvStrategies(f"{folder}/esconv"),
    "esconv_definitions": lambda folder: datamodules.ESConvStrategies(
        f"{folder}/esconv", definitions=True
    ),
    "cranfield": lambda folder: datamodules.Cranfield(f"{folder}/cranfield", divide_queries=False),
    "cranfield_test": lambda folder: datamodules.Cranfield(f"{folder}/cranfield"),
    "msmarco": lambda folder: datamodules.BEIR(f"{folder}/beir_samples", name="msmarco"),
    "dbpedia": lambda folder: datamodules.BEIR(f"{folder}/beir_samples", name="dbpedia"),
}
DEFAULT = ("esconv", "esconv_definitions", "cranfield", "cranfield_test", "msmarco")
CHEAP = ("random", "frequency", "bm25", "sentence")
LEARNABLE = ("sample", "esconv", "esconv_definitions")  # the same documents in every split
DEPTH = 100  # documents of a query in a run file
SHOWN = ("R@1", "R@3", "MRR@10", "nDCG@10")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows that are missing, then print the table; the status is 2 for bad input."""
    parser = trials.make_parser(__doc__)
    parser.add_argument("tasks", nargs="*", choices=[[], *TASKS], metavar="task")
    parser.add_argument("--rankers", nargs="+", choices=RANKERS, default=list(CHEAP))
    parser.add_argument("--model", help="of the rankers sentence and states, instead of their own")
    parser.add_argument("--runs", type=Path, help="folder for run files")
    parser.add_argument("--queries", type=int, help="use only the first so many")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "task", "ranker")
    rankers = {label(name, options): name for name in options.rankers}
    jobs = [
        (task, row)
        for task in options.tasks or DEFAULT
        for row, ranker in rankers.items()
        if ranker != "frequency" or task in LEARNABLE
    ]
    try:
        if not options.table:
            finished.run(jobs, lambda task, row: run_row(task, rankers[row], options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(table(finished.entries)))
    return 0


def label(ranker: str, options: argparse.Namespace) -> str:
    """Return the name of a row: the ranker, with what is not as by default."""
    given = [options.model] if options.model and ranker in ("sentence", "states") else []
    given += [f"first {options.queries}"] if options.queries else []
    return f"{ranker} ({', '.join(given)})" if given else ranker


@lru_cache(maxsize=2)  # the rankers of a task read the same records
def read(task: str, split: str = "test") -> list[Ranking]:
    """Return the records of a task."""
    folder = os.environ.get("ZOO_DATA")
    if folder is None and task != "sample":
        raise InputError(f"{task}: set ZOO_DATA to the folder that holds the datasets")
    records = TASKS[task](folder or "").records(split)
    return [record for record in records if isinstance(record, Ranking)]


def run_row(task: str, ranker: str, options: argparse.Namespace) -> trials.Entry:
    """Rank the records of a task; return the row's entry."""
    records = read(task)[: options.queries]
    start = time.time()
    given: dict[str, Any] = {"train": read(task, "train")} if ranker == "frequency" else {}
    if options.model and ranker in ("sentence", "states"):
        given["model"] = options.model
    scores = RANKERS[ranker](records, **given)
    seconds = time.time() - start
    if options.runs:
        options.runs.mkdir(parents=True, exist_ok=True)
        name = f"{task}.{ranker}.run"
        (options.runs / name).write_text("".join(run_lines(records, scores, ranker)))
    return {
        "task": task,
        "ranker": label(ranker, options),
        **measures(records, scores),
        "seconds": round(seconds, 1),
        "command": f"python -m benchmarks.ranking.baselines {task} --rankers {ranker}"
        + (f" --model {given['model']}" if "model" in given else "")
        + (f" --queries {options.queries}" if options.queries else ""),
        "machine": platform.machine(),
    }


def measures(records: Sequence[Ranking], scores: Scores) -> trials.Entry:
    """Return the measures of a ranking and their bootstrap intervals over queries."""
    queries = evaluate(records, scores)
    return {
        "queries": len(records),
        "documents": len(records[0].pool),
        "scores": {name: round(value, 4) for name, value in mean_scores(queries).items()},
        "interval_95": {
            name: [round(end, 4) for end in bootstrap([query[name] for query in queries])]
            for name in SHOWN
        },
    }


def evaluate(records: Sequence[Ranking], scores: Scores) -> list[dict[str, float]]:
    """Return the measures of each query."""
    return [
        query_scores(dict(zip(record.pool, row, strict=True)), dict(record.relevant))
        for record, row in zip(records, scores, strict=True)
    ]


def run_lines(records: Sequence[Ranking], scores: Scores, tag: str) -> list[str]:
    """Return the lines of a run in trec_eval's format."""
    lines = []
    for record, row in zip(records, scores, strict=True):
        pool_scores = dict(zip(record.pool, row, strict=True))
        for place, name in enumerate(ranked(pool_scores)[:DEPTH], start=1):
            lines.append(f"{record.id} Q0 {name} {place} {pool_scores[name]!r} {tag}\n")
    return lines


def table(results: Sequence[trials.Entry]) -> list[str]:
    """Return a Markdown table in percent, each mean with its 95 % interval."""
    rows = []
    for entry in sorted(results, key=lambda entry: list(TASKS).index(entry["task"])):
        named = [str(entry[name]) for name in ("task", "queries", "documents", "ranker")]
        ends = [(entry["scores"][name], *entry["interval_95"][name]) for name in SHOWN]
        rows.append([*named, *("{} ({}-{})".format(*trials.percent(*end)) for end in ends)])
    return trials.markdown(["task", "queries", "documents", "ranker", *SHOWN], rows)


if __name__ == "__main__":
    sys.exit(main())
