"""MeGan, its ablations and baselines where a condition tells what to do: one JSON entry per run.

    python -m benchmarks.megan --json benchmarks/results/megan.json

Data: `TaskViews`, texts asked for two things each. Two settings:

- `control`: CLINC150, an intent of each of ten domains. Prompts are identical under both
  conditions; the condition goes to the hypernetwork and nowhere else. Without it no row can be
  right more often than one of the two questions is.
- `released`: CLINC150 and ESConv; the system turn lists four answers, as MeGan's released files do,
  so every row can tell the questions apart; `clinc150 intent` is left out of training (an unseen
  task).

Rows "on full SFT" train what bends the gates, and nothing else, over the weights of that row, which
cannot tell the questions apart in `control`: what they gain there comes from the condition.

Scores are given for wordings of the condition that training had (`seen`), for held-out ones
(`unseen`), and for the unseen task. Needs `ZOO_DATA`; one thread.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch

import datamodules
import zoo
from benchmarks import trials
from benchmarks.training import quiet_trainer
from zoo.export import save

HYPER: dict[str, Any] = {"hyper": {"bottleneck": 0}, "optimizer": {"lr": 1e-3}}
NARROW: dict[str, Any] = {"hyper": {"bottleneck": 128}, "optimizer": {"lr": 2e-3}}
FULL: dict[str, Any] = {"train": "full", "optimizer": {"lr": 2e-4}}
LORA = {"rank": 39, "alpha": 78.0, "targets": ["q_proj", "v_proj"]}
ROWS: dict[str, dict[str, Any]] = {
    "full SFT": {"gate": "none", **FULL},
    "MeGan (hypernetwork) on full SFT": {**HYPER, "after": "full SFT"},
    "the same with R = 128, on full SFT": {**NARROW, "after": "full SFT"},
    "shuffled condition, on full SFT": {**HYPER, "after": "full SFT", "shuffle": True},
    "static beta, on full SFT": {"gate": "static", "optimizer": {"lr": 1e-2}, "after": "full SFT"},
    "MeGan (hypernetwork)": HYPER,
    "MeGan, all weights": {**HYPER, **FULL},
    "LoRA of equal size": {"gate": "none", "lora": LORA, "optimizer": {"lr": 2e-3}},
    "frozen backbone": {"gate": "none", "train": "full", "steps": 0},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "control": {"place": "none", "sources": ["clinc150"], "intents": 1},
    "released": {"place": "options", "held_out": "clinc150 intent", "intents": 3},
}
CONTROLS = [row for row in ROWS if row.endswith(", on full SFT")]  # in `control` only
DATA = {"max_texts": 400, "batch_size": 8, "eval_batch_size": 40}
GROUPS = ("seen", "unseen", "unseen_task")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the tables."""
    parser = trials.make_parser(__doc__, rows=ROWS, seeds=[0, 1])
    parser.add_argument("--steps", type=int, default=60, help="of eight samples each")
    parser.add_argument("--texts", type=int, default=20, help="test texts of each source")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--folder", type=Path, default=Path("runs/megan"), help="for weights")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "setting", "row", "seed")
    if not options.table:
        finished.run(jobs(options), partial(run_row, options=options))
    print("\n".join(line for setting in SETTINGS for line in table(finished.entries, setting)))


def jobs(options: argparse.Namespace) -> list[trials.Job]:
    """Return setting, row and seed; the controls run in one setting, what learns nothing once."""
    return [
        (setting, row, seed)
        for seed in options.seeds
        for setting in options.settings
        for row in ROWS
        if row in options.rows
        and (row != "frozen backbone" or seed == options.seeds[0])
        and (row not in CONTROLS or setting == "control")
    ]


def run_row(setting: str, row: str, seed: int, options: argparse.Namespace) -> trials.Entry:
    """Train and test one row; return its entry."""
    changes = dict(ROWS[row])
    steps, shuffle = changes.pop("steps", options.steps), changes.pop("shuffle", False)
    after = changes.pop("after", None)
    name = str(folder(options, setting, after, seed)) if after else "smollm2-135m"
    backbone = {"name": name, "lora": changes.pop("lora", None)}
    optimizer = {"schedule": "linear", "warmup_ratio": 0.1, "beta2": 0.99, "weight_decay": 0.0}
    optimizer |= changes.pop("optimizer", {})
    lightning.seed_everything(seed, verbose=False)
    module = zoo.MeGan(
        backbone=backbone,
        optimizer=optimizer,
        max_length=512,
        max_answer_tokens=8,
        max_generated=None,
        **changes,
    )
    path = str(Path(trials.data_path("clinc150")).parent)
    views = {**DATA, **SETTINGS[setting], "seed": seed}
    training = datamodules.TaskViews(path, **views, shuffle_conditions=shuffle)
    testing = datamodules.TaskViews(path, **{**views, "max_texts": options.texts})
    trainer = quiet_trainer(max_steps=max(steps, 1), max_epochs=-1)
    torch.set_num_threads(1)
    start = time.time()
    if steps:
        trainer.fit(module, training)
    trained = time.time()
    kept = folder(options, setting, row, seed)
    if any(row == row_changes.get("after") for row_changes in ROWS.values()) and not kept.exists():
        save(module, kept)
    loss = float(trainer.callback_metrics.get("train/reply_loss", math.nan))
    (metrics,) = trainer.test(module, testing, verbose=False)
    return {
        "setting": setting,
        "row": row,
        "seed": seed,
        "steps": steps,
        "samples_per_step": DATA["batch_size"],
        "trainable": sum(p.numel() for p in module.parameters() if p.requires_grad) * bool(steps),
        "test_records": counts(testing),
        "train_loss": None if math.isnan(loss) else round(loss, 4),
        "seconds": {"train": round(trained - start), "test": round(time.time() - trained)},
        "metrics": {key.removeprefix("test/"): round(value, 4) for key, value in metrics.items()},
    }


def folder(options: argparse.Namespace, setting: str, row: str, seed: int) -> Path:
    """Return where the weights of a row are kept for rows that start from them."""
    made: Path = options.folder / f"{setting}-{row.replace(' ', '_')}-{options.steps}-{seed}"
    return made


def counts(data: Any) -> dict[str, int]:
    """Return the number of test records by group."""
    groups = [record.group for record in data.records("test")]
    return {group: groups.count(group) for group in GROUPS if group in groups}


def table(results: Sequence[trials.Entry], setting: str) -> list[str]:
    """Return a Markdown table: accuracy by group, mean over seeds with the 95 % Wilson interval."""
    entries = trials.of_row(results, setting=setting)
    if not entries:
        return []
    groups = [group for group in GROUPS if group in entries[0]["test_records"]]
    tasks = sorted(k for k in entries[0]["metrics"] if k.startswith("accuracy_") and " " in k)
    titles = ["row", "trained", "seeds"]
    titles += [f"{group.replace('_', ' ')} (95 % interval)" for group in groups]
    titles += [*(task.removeprefix("accuracy_") for task in tasks), "contained", "loss"]
    rows = []
    for row, mine in trials.by_row(entries, ROWS):
        cells = [row, f"{mine[0]['trainable']:,}", str(len(mine))]
        for group in groups:
            tested = sum(entry["test_records"][group] for entry in mine)
            share = trials.mean_metric(mine, f"accuracy_{group}")
            cells.append(trials.percent_of(share, tested))
        shown = [trials.mean_metric(mine, name) for name in (*tasks, "mention_accuracy")]
        losses = [entry["train_loss"] for entry in mine if entry["train_loss"] is not None]
        loss = f"{statistics.mean(losses):.2f}" if losses else "-"
        rows.append([*cells, *trials.percent(*shown), loss])
    return ["", setting, "", *trials.markdown(titles, rows)]
