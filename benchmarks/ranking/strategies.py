"""LaHoRe, SFT and DPO, and Rabtriever on ESConv's strategies, with a small model from scratch.

    python -m benchmarks.ranking.strategies --json benchmarks/results/strategies.json
    python -m benchmarks.ranking.strategies --json benchmarks/results/strategies.json --table
    python -m benchmarks.ranking.strategies --split val --seeds 100 --lr 1e-3 3e-3 --json FILE

A query is the last turns before a supporter's turn, its documents are the eight strategies with
their definitions, one of them is right. All seeds begin with one backbone, which has read all
training decisions; each has its own order of these, and so its own first and further ones. The
test decisions are the same for all: a draw from all dialogues. Rules count all training decisions,
but for one that counts those of the SFT row. `last strategy x turn depth` knows what the queries do
not say. Needs `ZOO_DATA`; one thread.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

import datamodules
from benchmarks import trials
from benchmarks.ranking.pair_cache import PairCache
from benchmarks.ranking.simple_rankers import (
    Scores,
    bm25_scores,
    frequency_scores,
    naive_bayes,
    random_scores,
)
from benchmarks.ranking.small_backbone import SmallModel
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
from benchmarks.support.lookup import KEYS
from benchmarks.support.table import LOOKUP
from datamodules.esconv_strategies import STRATEGIES
from zoo.export import save
from zoo.records import Ranking
from zoo.support.decisions import Decision, decisions

TURNS = 3  # of the history in a query
KL = {"kl_weight": 300.0}  # as on CLINC150's intents
ROWS = {
    TEACHER: Row("LaHoRe", BACKBONE, "first", 1e-3, {}),
    "LaHoRe, SFT, then SFT": Row("LaHoRe", TEACHER, "further", 2e-4, {}),
    "LaHoRe, SFT, then DPO": Row("LaHoRe", TEACHER, "further", 2e-4, {"objective": "dpo"}),
    "Rabtriever": Row("Rabtriever", TEACHER, "student", 1e-2, KL),
    "Rabtriever, forward KL": Row(
        "Rabtriever", TEACHER, "student", 1e-2, {**KL, "divergence": "forward"}
    ),
}
SAME_WORDS = "naive Bayes, the SFT row's decisions"
RULES = ("random", "frequency", "bm25", LOOKUP, "naive Bayes", SAME_WORDS)
UNTRAINED = (*RULES, "LaHoRe, zero-shot")
# No system line and no question: constant texts say nothing to a model from scratch.
PROMPT: dict[str, Any] = {
    "template": "paper",
    "system": "",
    "relevance": False,
    "choice": False,
    "document_tokens": 28,
    "max_length": 144,
}
MODEL = SmallModel(PROMPT, size=(64, 168), vocabulary=4096, steps=600, pool=len(STRATEGIES))
PARTS = {  # places of training decisions in the seed's order
    "first": slice(0, 2400),
    "further": slice(2400, 3000),
    "student": slice(0, 1200),
}
TEST, SEEN = 1200, 200  # test decisions; training decisions that are ranked afterwards
QUERIES_PER_STEP = 8
STUDENT_EPOCHS = 6  # all other rows train once through their queries


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the table."""
    parser = trials.make_parser(__doc__, rows=[*UNTRAINED, *ROWS], seeds=range(3))
    parser.add_argument("--split", choices=("test", "val"), default="test", help="val: a search")
    parser.add_argument("--lr", type=float, nargs="+", help="instead of each row's own")
    parser.add_argument("--folder", type=Path, default=Path("runs/strategies"), help="for weights")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "row", "seed", "lr")
    if not options.table:
        torch.set_num_threads(1)
        finished.run(jobs(options), partial(run_row, options=options, shared={}))
    print("\n".join(table(finished.entries, [*UNTRAINED, *ROWS])))


def jobs(options: argparse.Namespace) -> Iterator[trials.Job]:
    """Yield row, seed and learning rate; what no seed changes runs with the first one alone."""
    for seed in options.seeds:
        for row in options.rows:
            if row in ROWS:
                yield from ((row, seed, lr) for lr in options.lr or [ROWS[row].lr])
            elif seed == options.seeds[0] or row == SAME_WORDS:
                yield row, seed, 0.0


def read(split: str) -> list[Ranking]:
    """Return the decisions of a split, a query each."""
    data = datamodules.ESConvStrategies(
        trials.data_path("esconv"), definitions=True, max_turns=TURNS
    )
    return data.records(split)  # type: ignore[return-value]


def drawn(records: Sequence[Ranking], seed: int) -> list[Ranking]:
    """Return all records in a random order."""
    return random.Random(seed).sample(records, len(records))


def run_row(
    row: str, seed: int, lr: float, options: argparse.Namespace, shared: dict[str, PairCache]
) -> trials.Entry:
    """Train if the row learns, rank the test decisions; return its entry."""
    train, asked = drawn(read("train"), seed), drawn(read(options.split), 0)[:TEST]
    start, steps, cost = time.process_time(), 0, 0
    rank: Callable[[Sequence[Ranking]], Scores]
    if row in RULES:
        rank = rule(row, train, seed)
    else:
        given = ROWS.get(row, ZERO_SHOT)
        module = begun(given, seed, lr, train, options.folder, MODEL)
        if row in ROWS:
            steps = trained(module, row, seed, train, shared)
            cost = sum(p.numel() for p in module.parameters() if p.requires_grad)
        if row == TEACHER and not weights(options.folder, row, seed).exists():
            save(module, weights(options.folder, row, seed))
        rank = partial(ranked_by, module)
    found = [evaluated(part, rank(part)) for part in (asked, train[:SEEN])]
    return {
        "row": row,
        "seed": seed,
        "lr": lr,
        "split": options.split,
        "steps": steps,
        "trained_parameters": cost,
        "metrics": metrics(*found),
        "items": {
            "rr": {
                item_name(record): round(query["MRR@10"], 3)
                for record, query in zip(asked, found[0], strict=True)
            }
        },
        "seconds": round(time.process_time() - start),
    }


def item_name(record: Ranking) -> str:
    """Return `DIALOGUE:TURN`, both as numbers."""
    dialogue, _, turn = record.id.rpartition(":dialog[")
    return f"{dialogue.rpartition(':')[2]}:{turn.rstrip(']')}"


def trained(
    module: Any, row: str, seed: int, train: Sequence[Ranking], shared: dict[str, PairCache]
) -> int:
    """Train on a row's decisions, all eight strategies of each; return the steps."""
    return fit(
        module,
        train[PARTS[ROWS[row].part]],
        per_step=QUERIES_PER_STEP,
        epochs=STUDENT_EPOCHS if ROWS[row].part == "student" else 1,
        seed=seed,
        shared=shared,
    )


# -- rules -----------------------------------------------------------------------------------------


def rule(row: str, train: Sequence[Ranking], seed: int) -> Callable[[Sequence[Ranking]], Scores]:
    """Return the ranker of a row that trains no weights."""
    rules: dict[str, Callable[[Sequence[Ranking]], Scores]] = {
        "random": partial(random_scores, seed=seed),
        "frequency": partial(frequency_scores, train=train),
        "bm25": bm25_scores,
        "naive Bayes": partial(naive_bayes, train=train),
        SAME_WORDS: partial(naive_bayes, train=train[PARTS["first"]]),
        LOOKUP: lookup,
    }
    return rules[row]


def lookup(records: Sequence[Ranking]) -> Scores:
    """Return ranks by what training used most after the same strategy at the same depth.

    Of strategies that were used equally often there, the one that was used more after the same
    strategy comes first, then the one that is more frequent.
    """
    counts: list[dict[Hashable, Counter[str]]] = [defaultdict(Counter) for _ in KEYS[LOOKUP]]
    for decision in by_id("train").values():
        for count, key in zip(counts, KEYS[LOOKUP], strict=True):
            count[key(decision)][decision.target.strategy] += 1
    places = by_id("train") | by_id("val") | by_id("test")
    rows = []
    for record in records:
        at = [c[key(places[record.id])] for c, key in zip(counts, KEYS[LOOKUP], strict=True)]
        used = {name: [count[name] for count in at] for name in record.pool}
        order = sorted(record.pool, key=used.__getitem__)
        rows.append([float(order.index(name)) for name in record.pool])
    return rows


@cache
def by_id(split: str) -> dict[str, Decision]:
    """Return the decisions of a split by the id of their query."""
    dialogues: Any = datamodules.ESConv(trials.data_path("esconv")).records(split)
    return {
        f"{decision.dialogue}:dialog[{len(decision.turns)}]": decision
        for dialogue in dialogues
        for decision in decisions(dialogue)
    }


if __name__ == "__main__":
    main()
