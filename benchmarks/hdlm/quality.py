"""HdLM and its controls on CLINC150 and WoS: joint-path scores, one JSON entry per row and seed.

    python -m benchmarks.hdlm --json benchmarks/results/hdlm.json
    python -m benchmarks.hdlm --json benchmarks/results/hdlm.json --table

Every row learns the same labelled texts as often, in as many steps, and is decoded greedily and
unconstrained on the same test texts. A part of each taxonomy keeps a run short: `SETS` names it.
The rows of the two data sets take turns, so a run that is cut off leaves a table. Needs `ZOO_DATA`.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

import zoo
from benchmarks import trials
from benchmarks.hdlm.parts import SETS, read
from benchmarks.training import GivenRecords, quiet_trainer
from benchmarks.trials import Entry
from zoo.backbone import read_config
from zoo.methods.hdlm.metrics import path_scores
from zoo.methods.hdlm.prompts import Plan

BACKBONE = "smollm2-135m"
WEIGHTS = [2.0, 1.0]  # coarse to fine, the released WoS setting
ROWS: dict[str, dict[str, Any]] = {
    "HdLM": {},
    "flat SFT": {},
    "HdLM, norm before the head": {"head_norm": True},
    "two-call SFT": {"separate": True},
}
ONE_DEPTH = ("flat SFT", "two-call SFT")  # the last block speaks at both levels
TITLES = ["row", "seeds", "joint accuracy (95 % over texts; over seeds)", "micro-F1", "macro-F1"]
TITLES += ["level 1", "level 2", "failed", "training tokens", "blocks x tokens a reply"]
TITLES += ["of them one by one"]
SHOWN = ("joint_micro_f1", "joint_macro_f1", "level_1_accuracy", "level_2_accuracy", "failed")


class LossCurve(Callback):
    """Keeps both levels' losses and the gradient's norm of every step, and counts tokens."""

    def __init__(self) -> None:
        self.losses: list[list[float]] = []
        self.tokens = 0

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the step."""
        self.tokens += batch.num_tokens
        logged = trainer.callback_metrics
        names = ["train/level_1_loss", "train/level_2_loss", "train/grad_norm"]
        self.losses.append([round(float(logged.get(name, math.nan)), 3) for name in names])
        if len(self.losses) % 10 == 0:
            recent = zip(*self.losses[-10:], strict=True)
            print(f"  step {len(self.losses)}:", *map(statistics.mean, recent), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rows that are missing, then print the table."""
    parser = trials.make_parser(__doc__, rows=ROWS, seeds=[0, 1])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--texts", type=int, default=4, help="labelled texts per step")
    parser.add_argument("--lr", type=float, default=4e-4)
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "set", "row", "seed")
    if not options.table:
        parts = (options.rows[:2], options.rows[2:])  # the main rows of all seeds come first
        pairs = [(row, seed) for rows in parts for seed in options.seeds for row in rows]
        jobs = [(name, *pair) for pair in pairs for name in options.sets]
        finished.run(jobs, partial(run_row, options=options))
    print("\n".join(table(finished.entries)))


def run_row(name: str, row: str, seed: int, options: argparse.Namespace) -> Entry:
    """Train and test one row; return its entry."""
    part = SETS[name]
    train, test = read(part)
    lightning.seed_everything(seed, verbose=False)
    module = zoo.HdLM(
        optimizer=zoo.Optimizer(lr=options.lr, beta2=0.99),
        weights=WEIGHTS,
        max_length=part.max_length,
        max_new_tokens=4,
        backbone=zoo.Backbone(BACKBONE),
        **settings(row, BACKBONE),
    )
    levels = 2 if module.separate else 1
    data = GivenRecords(train, batch_size=options.texts * levels, seed=seed)
    curve = LossCurve()
    start = time.time()
    quiet_trainer(max_epochs=part.epochs, callbacks=[curve]).fit(module, data)
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
    }


def settings(row: str, backbone: str) -> dict[str, Any]:
    """Return what a row sets; the coarse head of the others is at 0.78 of the blocks."""
    if row not in ONE_DEPTH:
        return ROWS[row]
    return {**ROWS[row], "layers": [read_config(backbone).num_hidden_layers]}


def cost(module: Any, plans: Sequence[Plan]) -> dict[str, float]:
    """Return blocks x tokens of a reply, and those of them that decode token by token (means)."""
    encoder, (k, top) = module.encoder(), module.ks
    total = sequential = 0.0
    for plan in plans:
        query = len(encoder.opening(plan)) + len(encoder.between(plan, ()))
        coarse, fine = (len(encoder.ids(text + encoder.chat.end)) for text in plan.gold)
        whole = query + coarse + len(encoder.between(plan, plan.names[:1])) + fine
        total += top * (whole + (query + coarse if module.separate else 0))
        sequential += k * coarse + top * fine
    return {"blocks": round(total / len(plans)), "sequential": round(sequential / len(plans), 1)}


def table(results: Sequence[Entry]) -> list[str]:
    """Return Markdown: per data set, means over seeds with both intervals of joint accuracy."""
    lines = []
    for name in SETS:
        rows = trials.by_row(trials.of_row(results, set=name), ROWS)
        lines += ["", f"{name}:", "", *trials.markdown(TITLES, [cells(*row) for row in rows])]
    return lines[1:]


def cells(row: str, entries: Sequence[Entry]) -> list[str]:
    """Return a row of the table."""
    joint = trials.mean_metric(entries, "joint_accuracy")
    shown = trials.percent_of(joint, sum(entry["texts"]["test"] for entry in entries))
    if len(entries) > 1:
        margin = trials.seed_margin([100 * entry["metrics"]["joint_accuracy"] for entry in entries])
        shown = f"{shown[:-1]}; +-{margin:.1f})"
    costs = [[e["tokens"], e["cost"]["blocks"], e["cost"]["sequential"]] for e in entries]
    means = [f"{statistics.mean(values):.0f}" for values in zip(*costs, strict=True)]
    return [
        *(row, str(len(entries)), shown),
        *trials.percent(*(trials.mean_metric(entries, name) for name in SHOWN)),
        *means,
    ]
