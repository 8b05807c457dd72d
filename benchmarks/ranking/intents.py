"""LaHoRe, Rabtriever and its ablations on CLINC150's intents, with a small model from scratch.

    python -m benchmarks.ranking.intents --json benchmarks/results/intents.json
    python -m benchmarks.ranking.intents --json benchmarks/results/intents.json --table
    python -m benchmarks.ranking.intents --split val --seeds 100 --lr 1e-3 3e-3 --json FILE

A query is a text, its documents are ten names of intents (`intent_backbone.py`). All seeds begin
with one backbone; each has its own draw of training queries, of their candidates and of their
order. The test queries and their candidates are the same for all. `LaHoRe, SFT` is the teacher of
Rabtriever's rows and the start of the two rows that go on from it with the same further queries.
Needs `ZOO_DATA`; one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch

import zoo
from benchmarks import trials
from benchmarks.ranking.intent_backbone import PROMPT, naive_bayes, read, write_backbone
from benchmarks.ranking.pair_cache import PairCache
from benchmarks.ranking.simple_rankers import Scores, bm25_scores, random_scores
from benchmarks.training import DEVICE, GivenRecords, quiet_trainer
from zoo.export import save
from zoo.ranking.metrics import mean_scores, query_scores
from zoo.records import Ranking

BACKBONE, TEACHER = "backbone", "LaHoRe, SFT"
KL = {"kl_weight": 300.0}  # searched; with the paper's 0.025 nothing is learned here


class Row(NamedTuple):
    """A trained row.

    Attributes:
        method: Class in `zoo`.
        start: Row whose weights it begins with, or `BACKBONE`.
        part: Training queries, `first` or `further` ones.
        lr: Peak learning rate, searched on validation queries with a seed that is in no table.
        settings: Arguments of the method.
    """

    method: str
    start: str
    part: str
    lr: float
    settings: dict[str, Any]


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
SHOWN = ("R@1", "R@3", "MRR@10", "nDCG@10", "train R@1")


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
    print("\n".join(table(finished.entries)))


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
        module = build(row, seed, lr, train, options.folder)
        if row in ROWS:
            steps = fit(module, row, seed, train, shared)
            cost = sum(p.numel() for p in module.parameters() if p.requires_grad)
        if row == TEACHER and not weights(options.folder, row, seed).exists():
            save(module, weights(options.folder, row, seed))
        found = [evaluated(part, ranked_by(module, part)) for part in (asked, train[: TEST // 3])]
    means = {name: round(value, 4) for name, value in mean_scores(found[0]).items()}
    return {
        "row": row,
        "seed": seed,
        "lr": lr,
        "split": options.split,
        "steps": steps,
        "trained_parameters": cost,
        "metrics": {**means, "train R@1": round(mean_scores(found[1])["R@1"], 4)},
        "items": {"rr": [round(query["MRR@10"], 3) for query in found[0]]},
        "seconds": round(time.process_time() - start),
    }


def evaluated(records: Sequence[Ranking], scores: Sequence[Sequence[float]]) -> list[Any]:
    """Return the measures of each query."""
    return [
        query_scores(dict(zip(record.pool, row, strict=True)), dict(record.relevant))
        for record, row in zip(records, scores, strict=True)
    ]


def ranked_by(module: Any, records: Sequence[Ranking]) -> list[list[float]]:
    """Return a module's score for each document of each record."""
    return [row for i in range(0, len(records), 50) for row in module.scores(records[i : i + 50])]


def weights(folder: Path, row: str, seed: int) -> Path:
    """Return where the weights of a row are kept that others begin with."""
    return folder / (row if row == BACKBONE else f"{row.replace(', ', '-')}-{seed}")


def build(row: str, seed: int, lr: float, train: Sequence[Ranking], folder: Path) -> Any:
    """Return the module of a row as it begins; the backbone is made where it is not there."""
    given = ROWS.get(row, Row("LaHoRe", BACKBONE, "first", 0.0, {}))
    start = weights(folder, given.start, seed)
    if given.start == BACKBONE and not start.exists():
        write_backbone(start, train)
    lightning.seed_everything(seed, verbose=False)
    optimizer = {"lr": lr, "schedule": "cosine", "warmup_ratio": 0.05}
    module = getattr(zoo, given.method)(
        backbone={"name": str(start)},
        optimizer={**optimizer, "beta2": 0.98, "weight_decay": 0.0},
        **PROMPT,
        **given.settings,
    )
    module.configure_model()
    return module.to(DEVICE)


def fit(
    module: Any, row: str, seed: int, train: Sequence[Ranking], shared: dict[str, PairCache]
) -> int:
    """Train on a row's queries, all ten documents of each; return the steps."""
    epochs = 1
    if isinstance(module, zoo.Rabtriever):  # the students of a teacher share its states
        epochs = STUDENT_EPOCHS
        if module.backbone.name not in shared:
            shared.clear()
            shared[module.backbone.name] = PairCache(module.frozen.slot, 2**30)
        module.frozen = shared[module.backbone.name]
    first, further = train[:FIRST], train[FIRST : FIRST + FURTHER]
    records = first if ROWS[row].part == "first" else further
    size = QUERIES_PER_STEP * len(records[0].pool)
    trainer = quiet_trainer(max_epochs=epochs)
    trainer.fit(module, GivenRecords(records, batch_size=size, seed=seed))
    return int(trainer.global_step)


def table(entries: Sequence[trials.Entry]) -> list[str]:
    """Return a Markdown table: means over seeds, in percent, with their 95 % t intervals."""
    lines = []
    for row, mine in trials.by_row(entries, [*UNTRAINED, *ROWS]):
        for lr in sorted({entry["lr"] for entry in mine}):
            same = trials.of_row(mine, lr=lr)
            cells = []
            for name in SHOWN:
                values = [100 * entry["metrics"][name] for entry in same]
                cells.append(f"{statistics.mean(values):.1f} +-{trials.seed_margin(values):.1f}")
            lines.append([row, f"{lr:g}", str(len(same)), *cells])
    return trials.markdown(["row", "lr", "seeds", *SHOWN], lines)


if __name__ == "__main__":
    main()
