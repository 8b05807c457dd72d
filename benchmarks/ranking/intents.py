"""LaHoRe, Rabtriever and its ablations on CLINC150's intents, with a small model from scratch.

    python -m benchmarks.ranking.intents --json benchmarks/results/intents.json
    python -m benchmarks.ranking.intents --json benchmarks/results/intents.json --table
    python -m benchmarks.ranking.intents --split val --seeds 100 --lr 1e-3 3e-3 --json FILE

A query is a text, its documents are ten names of intents (`intent_queries.py`). All seeds begin
with one backbone; each has its own draw of training queries, of their candidates and of their
order. The test queries and their candidates are the same for all. `LaHoRe, SFT` is the teacher of
Rabtriever's rows and the start of the two rows that go on from it with the same further queries.
Needs `ZOO_DATA`; one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import trials
from benchmarks.ranking.intent_queries import MODEL, read
from benchmarks.ranking.pair_cache import PairCache
from benchmarks.ranking.simple_rankers import Scores, bm25_scores, naive_bayes, random_scores
from benchmarks.ranking.small_rows import (
    BACKBONE,
    TEACHER,
    ZERO_SHOT,
    Row,
    begun,
    evaluated,
    fit,
    metrics,
    ranked_by,
    table,
    weights,
)
from zoo.export import save
from zoo.records import Ranking

KL = {"kl_weight": 300.0}  # searched; with the paper's 0.025 nothing is learned here
ROWS = {
    TEACHER: Row("LaHoRe", BACKBONE, "first", 1e-3, {}),
    "Rabtriever": Row("Rabtriever", TEACHER, "first", 1e-2, KL),
    "Rabtriever, forward KL": Row(
        "Rabtriever", TEACHER, "first", 1e-2, {**KL, "divergence": "forward"}
    ),
    "Rabtriever, no MSE": Row("Rabtriever", TEACHER, "first", 3e-3, {**KL, "mse": False}),
    "Rabtriever, no KL": Row("Rabtriever", TEACHER, "first", 1e-2, {"divergence": "none"}),
    "Rabtriever, no product": Row("Rabtriever", TEACHER, "first", 1e-2, {**KL, "product": False}),
    "LaHoRe, SFT, then SFT": Row("LaHoRe", TEACHER, "further", 2e-4, {}),
    "LaHoRe, SFT, then DPO": Row("LaHoRe", TEACHER, "further", 2e-4, {"objective": "dpo"}),
    "LaHoRe, DPO": Row("LaHoRe", BACKBONE, "first", 1e-3, {"objective": "dpo"}),
}
UNTRAINED = ("random", "bm25", "naive Bayes", "LaHoRe, zero-shot")
FIRST, FURTHER, TEST = 2400, 600, 600  # queries
QUERIES_PER_STEP = 5
STUDENT_EPOCHS = 3  # all other rows train once through their queries


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the table."""
    parser = trials.make_parser(__doc__, rows=[*UNTRAINED, *ROWS], seeds=range(5))
    parser.add_argument("--split", choices=("test", "val"), default="test", help="val: a search")
    parser.add_argument("--lr", type=float, nargs="+", help="instead of each row's own")
    parser.add_argument("--folder", type=Path, default=Path("runs/intents"), help="for weights")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "row", "seed", "lr")
    if not options.table:
        torch.set_num_threads(1)
        finished.run(jobs(options), partial(run_row, options=options, shared={}))
    print("\n".join(table(finished.entries, [*UNTRAINED, *ROWS])))


def jobs(options: argparse.Namespace) -> Iterator[trials.Job]:
    """Yield row, seed and learning rate, all rows of a seed before the next seed."""
    for seed in options.seeds:
        for row in options.rows:
            for lr in (options.lr or [ROWS[row].lr]) if row in ROWS else [0.0]:
                yield row, seed, lr


def run_row(
    row: str, seed: int, lr: float, options: argparse.Namespace, shared: dict[str, PairCache]
) -> trials.Entry:
    """Train if the row learns, rank the test queries; return its entry."""
    train, asked = read("train", seed), read(options.split, 0)[:TEST]
    start, steps, cost = time.process_time(), 0, 0
    if row in ("random", "bm25", "naive Bayes"):
        rules: dict[str, Callable[..., Scores]] = {
            "random": partial(random_scores, seed=seed),
            "bm25": bm25_scores,
            "naive Bayes": partial(naive_bayes, train=train),
        }
        found = [evaluated(part, rules[row](part)) for part in (asked, train[: TEST // 3])]
    else:
        given = ROWS.get(row, ZERO_SHOT)
        module = begun(given, seed, lr, train, options.folder, MODEL)
        if row in ROWS:
            steps = trained(module, row, seed, train, shared)
            cost = sum(p.numel() for p in module.parameters() if p.requires_grad)
        if row == TEACHER and not weights(options.folder, row, seed).exists():
            save(module, weights(options.folder, row, seed))
        found = [evaluated(part, ranked_by(module, part)) for part in (asked, train[: TEST // 3])]
    return {
        "row": row,
        "seed": seed,
        "lr": lr,
        "split": options.split,
        "steps": steps,
        "trained_parameters": cost,
        "metrics": metrics(*found),
        "items": {"rr": [round(query["MRR@10"], 3) for query in found[0]]},
        "seconds": round(time.process_time() - start),
    }


def trained(
    module: Any, row: str, seed: int, train: Sequence[Ranking], shared: dict[str, PairCache]
) -> int:
    """Train on a row's queries, all ten documents of each; return the steps."""
    first, further = train[:FIRST], train[FIRST : FIRST + FURTHER]
    return fit(
        module,
        first if ROWS[row].part == "first" else further,
        per_step=QUERIES_PER_STEP,
        epochs=STUDENT_EPOCHS if ROWS[row].method == "Rabtriever" else 1,
        seed=seed,
        shared=shared,
    )


if __name__ == "__main__":
    main()
