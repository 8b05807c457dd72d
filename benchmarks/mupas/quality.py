"""MuPaS, its two strategies and its baselines on MELD and EmoryNLP: one JSON entry per run.

    python -m benchmarks.mupas --json benchmarks/results/mupas.json

Next speakers: accuracy and mean reciprocal rank on all scenes and on those in which three people
speak, the trivial rules on the same turns beside them. Words: perplexity of all turns, their
speakers given; B-2, R-L and distinct-2 of the last turn of each scene. `prompted` is the backbone
without training. Differences from MuPaS are paired by seed, with their 95 % t interval.

Needs `ZOO_DATA`; one thread.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import lightning
import torch

import datamodules
import zoo
from benchmarks import trials
from benchmarks.training import quiet_trainer

ROWS: dict[str, dict[str, Any]] = {
    "MuPaS": {},
    "MuPaS, speak or silence": {"strategy": "speak_or_silence"},
    "MuPaS, lambda = 0": {"speaker_weight": 0.0},
    "token-mean SFT": {"objective": "token_mean"},
    "single-role SFT": {"objective": "single_role"},
    "pairwise SFT": {"objective": "pairwise"},
    "prompted": {},
}
DATASETS = {"meld": datamodules.MELD, "emorynlp": datamodules.EmoryNLP}
RULES = ("uniform", "most_frequent", "previous_other", "alternation")
SPEAKERS = ("speaker_accuracy", "speaker_mrr", "speaker_accuracy_3plus", "speaker_mrr_3plus")
SHOWN = (*SPEAKERS, "perplexity", "bleu_2", "rouge_l", "distinct_2")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the tables."""
    parser = trials.make_parser(__doc__, rows=ROWS, seeds=[0, 1, 2])
    parser.add_argument("--data", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--steps", type=int, default=240, help="of eight scenes each")
    parser.add_argument("--scenes", type=int, default=None, help="test scenes; all by default")
    parser.add_argument("--backbone", default="smollm2-135m")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "data", "row", "seed")
    if not options.table:
        finished.run(jobs(options), partial(run_row, options=options))
    print("\n".join(line for name in DATASETS for line in table(finished.entries, name)))


def jobs(options: argparse.Namespace) -> list[trials.Job]:
    """Return dataset, row and seed; what is not trained runs once."""
    return [
        (data, row, seed)
        for seed in options.seeds
        for data in options.data
        for row in ROWS
        if row in options.rows and (row != "prompted" or seed == options.seeds[0])
    ]


def run_row(data: str, row: str, seed: int, options: argparse.Namespace) -> trials.Entry:
    """Train and test one row; return its entry."""
    lightning.seed_everything(seed, verbose=False)
    optimizer = {"lr": 5e-5, "schedule": "cosine", "warmup_ratio": 0.03}
    module = zoo.MuPaS(
        backbone={"name": options.backbone},
        optimizer=optimizer,
        max_length=1024,
        max_answer_tokens=32,
        max_generated=None,
        **ROWS[row],
    )
    scenes = DATASETS[data](
        trials.data_path(data),
        batch_size=8,
        eval_batch_size=8,
        max_test=options.scenes,
        too_long="drop",
        seed=seed,
    )
    trainer = quiet_trainer(max_steps=options.steps, max_epochs=-1)
    torch.set_num_threads(1)
    start = time.time()
    if row != "prompted":
        trainer.fit(module, scenes)
    trained = time.time()
    (metrics,) = trainer.test(module, scenes, verbose=False)
    return {
        "data": data,
        "row": row,
        "seed": seed,
        "steps": options.steps * (row != "prompted"),
        "backbone": options.backbone,
        "test_scenes": len(scenes.records("test")),
        "seconds": {"train": round(trained - start), "test": round(time.time() - trained)},
        "metrics": {
            key.removeprefix("test/"): round(value, 5)
            for key, value in metrics.items()
            if not math.isnan(value)
        },
    }


def table(results: Sequence[trials.Entry], data: str) -> list[str]:
    """Return Markdown tables: scores, mean over seeds; rules; paired differences from MuPaS."""
    entries = trials.of_row(results, data=data)
    if not entries:
        return []
    rows, pairs = [], []
    base = {e["seed"]: e["metrics"] for e in trials.of_row(entries, row="MuPaS")}
    for row, mine in trials.by_row(entries, ROWS):
        cells = [_mean([e["metrics"].get(name) for e in mine]) for name in SHOWN]
        rows.append([row, str(len(mine)), *cells])
        if row not in ("MuPaS", "prompted"):
            both = [(base[e["seed"]], e["metrics"]) for e in mine if e["seed"] in base]
            pairs.append([row, *(_paired(both, name) for name in SHOWN)])
    first = entries[0]["metrics"]
    rules = [
        [rule, *(_mean([first.get(f"rule_{rule}{end}")]) for end in ("", "_3plus"))]
        for rule in RULES
    ]
    return [
        *("", f"{data}, {entries[0]['test_scenes']} test scenes", ""),
        *trials.markdown(["row", "seeds", *SHOWN], rows),
        *("", *trials.markdown(["rule", "accuracy", "accuracy, >= 3 speakers"], rules)),
        *("", "MuPaS minus the row, paired by seed (95 % interval)", ""),
        *trials.markdown(["row", *SHOWN], pairs),
    ]


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.3f}" if known else "-"


def _paired(both: Sequence[tuple[dict[str, float], dict[str, float]]], name: str) -> str:
    """Return the mean difference with its margin over seeds; `-` where a side has no score."""
    gaps = [mine[name] - theirs[name] for mine, theirs in both if name in mine and name in theirs]
    if not gaps:
        return "-"
    margin = trials.seed_margin(gaps)
    spread = "" if math.isnan(margin) else f" +- {margin:.3f}"
    return f"{statistics.mean(gaps):+.3f}{spread}"


if __name__ == "__main__":
    main()
