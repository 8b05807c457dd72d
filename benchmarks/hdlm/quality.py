"""HdLM and its controls on CLINC150 and WoS: joint-path scores, one JSON entry per row and seed.

    python -m benchmarks.hdlm --json benchmarks/results/hdlm.json
    python -m benchmarks.hdlm --json benchmarks/results/hdlm.json --table

Every row learns the same labelled texts as often, in as many steps, and is decoded greedily and
unconstrained on the same test texts. A part of each taxonomy keeps a run short: `SETS` names it.
The rows of the two data sets take turns, and rows that the JSON already holds are skipped, so a
killed run goes on where it was and a cut one leaves a table. Needs `ZOO_DATA`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

import datamodules
import zoo
from benchmarks.hdlm.table import table
from benchmarks.training import Chosen, quiet_trainer
from zoo.methods.hdlm.metrics import path_scores
from zoo.methods.hdlm.prompts import Plan
from zoo.records import LabelPath, Taxonomy

BLOCKS, K1 = 30, 23  # SmolLM2-135M; 0.78 of its blocks, the released WoS setting
WEIGHTS = [2.0, 1.0]  # coarse to fine, the released WoS setting
ROWS: dict[str, dict[str, Any]] = {
    "HdLM (k = 23)": {"layers": [K1]},
    "flat SFT": {"layers": [BLOCKS]},
    "HdLM, norm before the head": {"layers": [K1], "head_norm": True},
    "two-call SFT": {"layers": [BLOCKS], "separate": True},
}


@dataclass(frozen=True)
class Part:
    """A part of a data set.

    Attributes:
        module: Data module.
        folder: Its folder in `ZOO_DATA`.
        domains: Domains to keep.
        areas: Classes to keep of each domain.
        shots: Most training texts of a class.
        held: Splits to test on.
        tested: Most test texts of a class.
        epochs: Passes over the training texts.
        max_length: Window in tokens; a longer text loses its end.
    """

    module: str
    folder: str
    domains: int
    areas: int
    shots: int
    held: tuple[str, ...]
    tested: int
    epochs: int
    max_length: int


SETS = {
    "CLINC150": Part("CLINC150", "clinc150", 4, 3, 24, ("test",), 10, 2, 256),
    "WoS": Part("WoS", "wos", 3, 2, 12, ("val", "test"), 10, 6, 144),
}


class Curve(Callback):
    """Keeps the loss terms of every step, and counts tokens."""

    def __init__(self) -> None:
        self.losses: list[list[float]] = []
        self.tokens = 0

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the step."""
        self.tokens += batch.num_tokens
        found = trainer.callback_metrics
        names = [f"train/level_{i}_loss" for i in (1, 2)]
        self.losses.append([round(float(found.get(name, math.nan)), 3) for name in names])
        if len(self.losses) % 10 == 0:
            recent = zip(*self.losses[-10:], strict=True)
            print(f"  step {len(self.losses)}:", *map(statistics.mean, recent), flush=True)


def main() -> None:
    """Run the rows that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--texts", type=int, default=4, help="labelled texts per step")
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    if "ZOO_DATA" not in os.environ and not options.table:
        sys.exit("set ZOO_DATA to the folder that holds clinc150/ and wos/")
    path = Path(options.json)
    results: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    done = {(entry["set"], entry["row"], entry["seed"]) for entry in results}
    main_rows, controls = options.rows[:2], options.rows[2:]
    pairs = [(r, seed) for rows in (main_rows, controls) for seed in options.seeds for r in rows]
    jobs = [(name, *pair) for pair in pairs for name in options.sets]
    for job in jobs if not options.table else []:
        if job not in done:
            results.append(run_row(*job, options))
            path.write_text(json.dumps(results, indent=1) + "\n")
            print(*job, results[-1]["metrics"], results[-1]["seconds"], flush=True)
    print("\n".join(table(results, list(SETS), list(ROWS))))


def restrict(records: Sequence[Any], part: Part) -> list[LabelPath]:
    """Return the records of a part of the taxonomy, relabelled with that part alone.

    Of classes or domains of one size (CLINC150) some that are evenly spread are kept, otherwise
    those with most records (WoS).
    """
    whole = records[0].taxonomy
    sizes = Counter(record.labels for record in records)
    below = {
        domain: choose([(name, sizes[domain, name]) for name in whole.below((domain,))], part.areas)
        for domain in whole.below(())
    }
    weighed = [(d, sum(sizes[d, name] for name in names)) for d, names in below.items()]
    domains = choose(weighed, part.domains)
    children: dict[tuple[str, ...], tuple[str, ...]] = {(): domains}
    children |= {(domain,): below[domain] for domain in domains}
    taxonomy = Taxonomy(children)
    return [
        LabelPath(record.text, record.labels, taxonomy, record.id)
        for record in records
        if record.labels[1] in taxonomy.below(record.labels[:1])
    ]


def choose(weighed: Sequence[tuple[str, int]], count: int) -> tuple[str, ...]:
    """Return `count` names in their order: the heaviest, or evenly spread if all weigh the same."""
    if len({weight for _, weight in weighed}) == 1:
        return tuple(name for name, _ in weighed[:: len(weighed) // count][:count])
    kept = sorted(weighed, key=lambda item: -item[1])[:count]
    return tuple(name for name, weight in weighed if (name, weight) in kept)


def limit(records: Sequence[LabelPath], most: int) -> list[LabelPath]:
    """Return at most so many records of each path."""
    seen: Counter[tuple[str, ...]] = Counter()
    kept = []
    for record in records:
        seen[record.labels] += 1
        if seen[record.labels] <= most:
            kept.append(record)
    return kept


def read(part: Part) -> tuple[list[LabelPath], list[LabelPath]]:
    """Return the training and the test records of a part."""
    data = getattr(datamodules, part.module)(f"{os.environ['ZOO_DATA']}/{part.folder}")
    splits = {split: data.records(split) for split in ("train", *part.held)}
    everything = [record for records in splits.values() for record in records]
    chosen = {record.id: record for record in restrict(everything, part)}
    train, test = (
        [chosen[r.id] for split in names for r in splits[split] if r.id in chosen]
        for names in (("train",), part.held)
    )
    return limit(train, part.shots), limit(test, part.tested)


def run_row(name: str, row: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and test one row; return its entry."""
    part = SETS[name]
    train, test = read(part)
    lightning.seed_everything(seed, verbose=False)
    module = zoo.HdLM(
        optimizer=zoo.Optimizer(lr=options.lr, beta2=0.99),
        weights=WEIGHTS,
        max_length=part.max_length,
        max_new_tokens=4,
        **ROWS[row],
    )
    levels = 2 if module.separate else 1
    data = Chosen(train, batch_size=options.texts * levels, seed=seed)
    curve = Curve()
    trainer = quiet_trainer(max_epochs=part.epochs, callbacks=[curve])
    start = time.time()
    trainer.fit(module, data)
    trained = time.time()
    plans = [plan for record in test for plan in module.encoder().plans(record)]
    paths = [p for i in range(0, len(plans), 16) for p in module.generate(plans[i : i + 16])]
    gold = [plan.names for plan in plans]
    return {
        "set": name,
        "row": row,
        "seed": seed,
        "part": asdict(part),
        "lr": options.lr,
        "steps": len(curve.losses),
        "texts": {"train": len(train), "test": len(test)},
        "tokens": curve.tokens,
        "cost": cost(module, plans),
        "seconds": {"train": round(trained - start), "test": round(time.time() - trained)},
        "metrics": {key: round(value, 4) for key, value in path_scores(paths, gold).items()},
        "found": ["/".join(path) for path in paths],
        "gold": ["/".join(path) for path in gold],
        "losses": curve.losses,
        "torch": torch.__version__,
        "date": str(date.today()),
    }


def cost(module: Any, plans: Sequence[Plan]) -> dict[str, float]:
    """Return blocks x tokens of a reply, and those of them that decode token by token (means)."""
    encoder, k = module.encoder(), module.ks[0]
    total = sequential = 0.0
    for plan in plans:
        query = len(encoder.opening(plan)) + len(encoder.between(plan, ()))
        coarse, fine = (len(encoder.ids(text + encoder.chat.end)) for text in plan.gold)
        whole = query + coarse + len(encoder.between(plan, plan.names[:1])) + fine
        total += BLOCKS * (whole + (query + coarse if module.separate else 0))
        sequential += k * coarse + BLOCKS * fine
    return {"blocks": round(total / len(plans)), "sequential": round(sequential / len(plans), 1)}


if __name__ == "__main__":
    main()
