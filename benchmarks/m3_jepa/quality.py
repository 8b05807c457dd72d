"""M3-JEPA and its ablations on real pictures: recall both ways, one JSON entry per row and seed.

    python -m benchmarks.m3_jepa emoji --json benchmarks/results/m3_jepa-emoji.json
    python -m benchmarks.m3_jepa digits --json benchmarks/results/m3_jepa-digits.json

A row is the named config with a few settings changed; its entry holds the `zoo fit` command that
trains it. The rows run in one process, so that what the frozen encoders make of an item is computed
once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import yaml
from lightning.pytorch.callbacks import Callback

import datamodules
import zoo
from benchmarks import trials
from benchmarks.training import quiet_trainer

CONFIGS = {"emoji": "configs/m3_jepa_emoji.yaml", "digits": "configs/m3_jepa.yaml"}
ROWS: dict[str, dict[str, Any]] = {
    "M3-JEPA (alpha 0.5)": {},
    "MLP instead of MoE": {"mixture": "mlp"},
    "joint, same steps": {"alternate": False},
    "joint, same compute": {"alternate": False, "steps": 0.5},
    "alpha 0": {"alpha": 0.0},
    "alpha 0.25": {"alpha": 0.25},
    "alpha 0.75": {"alpha": 0.75},
    "alpha 1": {"alpha": 1.0},
    "one branch": {"branches": 1},
}
SHOWN = ("R@1_image2text", "R@5_image2text", "R@1_text2image", "R@5_text2image")


class KeptStates(Callback):
    """Gives each new module the encoder states that earlier ones have kept."""

    def __init__(self) -> None:
        self.caches: dict[str, tuple[dict[str, Any], int]] = {}

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Hand the kept states over."""
        for name, tower in pl_module.towers.items():
            tower.cache, tower.cached_bytes = self.caches.get(name, ({}, 0))

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the kept states back."""
        for name, tower in pl_module.towers.items():
            self.caches[name] = (tower.cache, tower.cached_bytes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rows that are missing, then print the table."""
    parser = trials.make_parser(__doc__, rows=ROWS, seeds=[0, 1, 2])
    parser.add_argument("data", choices=CONFIGS)
    parser.add_argument("--steps", type=int, help="instead of the config's")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "row", "seed")
    if not options.table:
        jobs = [(row, seed) for seed in options.seeds for row in options.rows]
        finished.run(jobs, partial(run_row, options=options, kept=KeptStates()))
    print("\n".join(table(finished.entries)))


def run_row(row: str, seed: int, options: argparse.Namespace, kept: KeptStates) -> trials.Entry:
    """Train and test one row; return its entry."""
    changes = dict(ROWS[row])
    config = yaml.safe_load(Path(CONFIGS[options.data]).read_text())
    lightning.seed_everything(seed, verbose=False)
    steps = int((options.steps or config["trainer"]["max_steps"]) * changes.pop("steps", 1))
    module = zoo.M3JEPA(**{**config["model"]["init_args"], **changes})
    given = {**config["data"].get("init_args", {}), "seed": seed}
    place = ""
    if options.data == "emoji":
        given["path"] = trials.data_path("emoji_twitter")
        place = " --data.path $ZOO_DATA/emoji_twitter"
    name = config["data"]["class_path"].rpartition(".")[2]
    data = getattr(datamodules, name)(**given)
    trainer = quiet_trainer(
        max_steps=steps,
        max_epochs=-1,
        gradient_clip_val=config["trainer"]["gradient_clip_val"],
        callbacks=[kept],
    )
    start = time.time()
    trainer.fit(module, data)
    trained = time.time()
    (metrics,) = trainer.test(module, data, verbose=False)
    flags = " ".join(f"--model.{key} {json.dumps(value)}" for key, value in changes.items())
    if row.startswith("M3-JEPA") and seed == 0:  # the page shows what it retrieves
        module.figures()["retrieval"].savefig(options.json.with_suffix(".png"), dpi=70)
    return {
        "row": row,
        "seed": seed,
        "command": f"python -m zoo fit --config {CONFIGS[options.data]}{place} --seed_everything "
        f"{seed} --data.seed {seed} --trainer.max_steps {steps} {flags}".strip(),
        "steps": steps,
        "test_items": len(data.records("test")),
        "trainable": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "seconds": {"train": round(trained - start), "test": round(time.time() - trained)},
        "metrics": {key.removeprefix("test/"): round(value, 4) for key, value in metrics.items()},
    }


def table(results: Sequence[trials.Entry]) -> list[str]:
    """Return a Markdown table: mean over seeds with the 95 % t interval of R@1 both ways."""
    titles = ["row", "seeds", "mean R@1 (95 % interval over seeds)", *SHOWN]
    rows, seeds = [], 0
    for row, entries in trials.by_row(results, ROWS):
        seeds = max(seeds, len(entries))
        first = [100 * entry["metrics"]["R@1"] for entry in entries]
        ways = ("regression_R@1_image2text", "regression_R@1_text2image")
        regression = statistics.mean(trials.mean_metric(entries, way) for way in ways)
        shown = [trials.mean_metric(entries, name) for name in SHOWN]
        mean = f"{statistics.mean(first):.1f} (+-{trials.seed_margin(first):.1f})"
        rows.append([row, str(len(first)), mean, *trials.percent(*shown, regression)])
    return [f"{seeds} seeds", "", *trials.markdown([*titles, "regression view, mean R@1"], rows)]
