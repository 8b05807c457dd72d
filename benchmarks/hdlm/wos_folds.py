"""HdLM and its controls on WoS by five-fold cross-validation, by a small Llama from scratch.

    python -m benchmarks.hdlm.wos_folds --json benchmarks/results/hdlm-wos.json
    python -m benchmarks.hdlm.wos_folds --json benchmarks/results/hdlm-wos.json --table

The model of `from_scratch` reads the content words of an abstract and names the domain, then the
area, a token each. Every abstract is tested once, by rows that learned the other four folds; fold i
has seed i. Rules that count words, and one that reads none, stand beside them. The seeds are the
folds. `--held val` divides the training abstracts of fold 0 again and tests on a fifth of them.
Needs `ZOO_DATA`; one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import datamodules
from benchmarks import trials
from benchmarks.hdlm import abstracts
from benchmarks.hdlm.from_scratch import Reading, decoded, scores, thinned, trained
from benchmarks.hdlm.quality import LossCurve
from benchmarks.reproduce.verdict import interval
from benchmarks.trials import Entry
from zoo.records import LabelPath

RULES = {"most frequent": abstracts.most_frequent, "naive Bayes": abstracts.naive_bayes}
ROWS = ("HdLM", "flat SFT", "HdLM, norm before the head")
LR, EPOCHS = 3e-3, 8
WORDS = 64  # most content words of an abstract
ABSTRACTS = Reading(vocabulary=8192, window=256, name_tokens=4, texts=8)
RECALLED = 160  # training abstracts that are decoded
LEVELS = {"joint": "joint_accuracy", "level_1": "level_1_accuracy", "level_2": "level_2_accuracy"}
TITLES = ["row", "folds", "joint", "domain", "area", "no class", "joint, training texts", "tokens"]
PAIRS = [
    ("HdLM", "flat SFT"),
    ("HdLM, norm before the head", "HdLM"),
    ("HdLM, norm before the head", "flat SFT"),
    ("flat SFT", "most frequent"),
    ("HdLM", "naive Bayes"),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rows that are missing, then print the tables."""
    parser = trials.make_parser(__doc__, rows=[*RULES, *ROWS], seeds=range(abstracts.FOLDS))
    parser.add_argument("--held", choices=("val", "test"), default="test", help="what is decoded")
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "held", "row", "seed", "lr", "epochs")
    if not options.table:
        torch.set_num_threads(1)
        finished.run(jobs(options), run_row)
    print("\n".join(table(finished.entries)))


def jobs(options: argparse.Namespace) -> list[trials.Job]:
    """Return split, row, fold, learning rate and epochs; rules, then all rows fold by fold."""
    rules, trained_rows = ([row for row in options.rows if row in part] for part in (RULES, ROWS))
    untrained = [(options.held, row, seed, 0.0, 0) for seed in options.seeds for row in rules]
    return untrained + [
        (options.held, row, seed, options.lr, options.epochs)
        for seed in options.seeds
        for row in trained_rows
    ]


def run_row(held: str, row: str, seed: int, lr: float, epochs: int) -> Entry:
    """Train a row on the other folds and test it on this one; return its entry."""
    train, test = read(held, seed)
    curve, start = LossCurve(), time.process_time()
    if row in RULES:
        paths, recalled = (RULES[row](train, part) for part in (test, train[:RECALLED]))
        learned = time.process_time()
    else:
        module = trained(row, train, lr, epochs, seed, curve, ABSTRACTS)
        learned = time.process_time()
        paths, recalled = decoded(module, test), decoded(module, train[:RECALLED])
    return {
        "held": held,
        "row": row,
        "seed": seed,
        "lr": lr,
        "epochs": epochs,
        "steps": len(curve.losses),
        "tokens": curve.tokens,
        "texts": {"train": len(train), held: len(test)},
        "seconds": {"train": round(learned - start), "test": round(time.process_time() - learned)},
        "metrics": scores(paths, test),
        "metrics_train": scores(recalled, train[:RECALLED]),
        "items": items(paths, test),
        "losses": thinned(curve.losses, 20),
    }


def read(held: str, fold: int) -> tuple[list[LabelPath], list[LabelPath]]:
    """Return the training and the held-out abstracts of a fold, as the model reads them."""
    data = datamodules.WoS(trials.data_path("wos"))
    splits = ("train", "val", "test")
    everything: list[Any] = [record for split in splits for record in data.records(split)]
    if held == "val":
        everything, _ = abstracts.fold_of(everything, 0)
    train, test = abstracts.fold_of(everything, fold)
    kept = abstracts.content_words(train)
    return abstracts.shortened(train, kept, WORDS), abstracts.shortened(test, kept, WORDS)


def items(
    paths: Sequence[Sequence[str]], records: Sequence[LabelPath]
) -> dict[str, dict[str, int]]:
    """Return what is right of each abstract, by its name: both levels, and each of them."""
    pairs = [(r.id, tuple(p), r.labels) for p, r in zip(paths, records, strict=True)]
    return {
        "joint": {name: int(found == gold) for name, found, gold in pairs},
        "level_1": {name: int(found[0] == gold[0]) for name, found, gold in pairs},
        "level_2": {name: int(found[1] == gold[1]) for name, found, gold in pairs},
    }


def table(entries: Sequence[Entry]) -> list[str]:
    """Return Markdown: scores over all abstracts, then differences of rows in points."""
    rows = dict(trials.by_row(entries, [*RULES, *ROWS]))
    lines = trials.markdown(TITLES, [cells(row, mine) for row, mine in rows.items()])
    titles = ["points", "level", "folds, abstracts", "difference", "over abstracts", "over folds"]
    pairs = [pair for pair in PAIRS if all(row in rows for row in pair)]
    compared = [
        [f"{ours} - {theirs}", level, *differences(rows[ours], rows[theirs], level)]
        for ours, theirs in pairs
        for level in LEVELS
    ]
    return [*lines, "", *trials.markdown(titles, compared)]


def cells(row: str, entries: Sequence[Entry]) -> list[str]:
    """Return a row of the table, with Wilson's intervals over abstracts."""
    tested = [[x for e in entries for x in e["items"][level].values()] for level in LEVELS]
    shown = [trials.percent_of(statistics.mean(right), len(right)) for right in tested]
    recalled = statistics.mean(entry["metrics_train"]["joint_accuracy"] for entry in entries)
    failed = trials.mean_metric(entries, "failed")
    tokens = statistics.mean(entry["tokens"] for entry in entries)
    return [row, str(len(entries)), *shown, *trials.percent(failed, recalled), f"{tokens:.0f}"]


def differences(ours: Sequence[Entry], theirs: Sequence[Entry], level: str) -> list[str]:
    """Return the paired difference of two rows with 95 % t intervals over abstracts and folds."""
    folds = []
    for entry in ours:
        for other in trials.of_row(theirs, seed=entry["seed"]):
            mine, theirs_too = (e["items"][level] for e in (entry, other))
            folds.append(100.0 * np.array([mine[name] - theirs_too[name] for name in mine]))
    found, means = np.concatenate(folds), np.array([fold.mean() for fold in folds])
    ends = []
    for values in (found, means):
        half, mean, *_ = interval(values) if len(values) > 1 else (np.nan, np.nan)
        ends.append(f"{mean - half:+.1f} to {mean + half:+.1f}")
    return [f"{len(folds)}, {len(found)}", f"{found.mean():+.1f}", *ends]


if __name__ == "__main__":
    main()
