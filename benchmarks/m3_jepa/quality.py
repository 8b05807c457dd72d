"""M3-JEPA and its ablations on real pictures: recall both ways, one JSON entry per row and seed.

    python -m benchmarks.m3_jepa emoji --json benchmarks/results/m3_jepa-emoji.json
    python -m benchmarks.m3_jepa digits --json benchmarks/results/m3_jepa-digits.json

A row is the named config with a few settings changed; its entry holds the `zoo fit` command that
trains it. The rows run in one process, so that what the frozen encoders make of an item is computed
once. Rows that the JSON already holds are skipped, so a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from datetime import date
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import Callback

import datamodules
import zoo
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


class Shared(Callback):
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


def main() -> None:
    """Run the rows that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", choices=CONFIGS)
    parser.add_argument("--json", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="instead of the config's")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    path = Path(options.json)
    results: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    done = {(entry["row"], entry["seed"]) for entry in results}
    shared = Shared()
    for seed in options.seeds if not options.table else []:
        for row, changes in ROWS.items():
            if (row, seed) not in done:
                results.append(run_row(options, row, dict(changes), seed, shared))
                path.write_text(json.dumps(results, indent=1) + "\n")
                print(results[-1]["row"], seed, results[-1]["metrics"]["R@1"], flush=True)
    print("\n".join(table(results)))


def run_row(
    options: argparse.Namespace, row: str, changes: dict[str, Any], seed: int, shared: Shared
) -> dict[str, Any]:
    """Train and test one row; return its entry."""
    config = yaml.safe_load(Path(CONFIGS[options.data]).read_text())
    lightning.seed_everything(seed, verbose=False)
    steps = int((options.steps or config["trainer"]["max_steps"]) * changes.pop("steps", 1))
    module = zoo.M3JEPA(**{**config["model"]["init_args"], **changes})
    given = {**config["data"].get("init_args", {}), "seed": seed}
    place = ""
    if options.data == "emoji":
        given["path"] = f"{os.environ['ZOO_DATA']}/emoji_twitter"
        place = " --data.path $ZOO_DATA/emoji_twitter"
    name = config["data"]["class_path"].rpartition(".")[2]
    data = getattr(datamodules, name)(**given)
    trainer = quiet_trainer(
        max_steps=steps,
        max_epochs=-1,
        gradient_clip_val=config["trainer"]["gradient_clip_val"],
        callbacks=[shared],
    )
    start = time.time()
    trainer.fit(module, data)
    trained = time.time()
    found = trainer.test(module, data, verbose=False)[0]
    flags = " ".join(f"--model.{key} {json.dumps(value)}" for key, value in changes.items())
    if row.startswith("M3-JEPA") and seed == 0:  # the page shows what it retrieves
        module.figures()["retrieval"].savefig(f"{options.json.removesuffix('.json')}.png", dpi=70)
    return {
        "row": row,
        "seed": seed,
        "command": f"python -m zoo fit --config {CONFIGS[options.data]}{place} --seed_everything "
        f"{seed} --data.seed {seed} --trainer.max_steps {steps} {flags}".strip(),
        "steps": steps,
        "test_items": len(data.records("test")),
        "trainable": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "seconds": {"train": round(trained - start), "test": round(time.time() - trained)},
        "metrics": {key.removeprefix("test/"): round(value, 4) for key, value in found.items()},
        "torch": torch.__version__,
        "date": str(date.today()),
    }


def table(results: list[dict[str, Any]]) -> list[str]:
    """Return a Markdown table: mean over seeds with the 95 % t interval of R@1 both ways."""
    seeds = max(sum(entry["row"] == row for entry in results) for row in ROWS)
    lines = [
        f"| row | seeds | mean R@1 (95 % interval over seeds) | {' | '.join(SHOWN)} | "
        "regression view, mean R@1 |",
        "|---|---|---|" + "---|" * (len(SHOWN) + 1),
    ]
    for row in ROWS:
        entries = [entry["metrics"] for entry in results if entry["row"] == row]
        if not entries:
            continue
        first = [100 * entry["R@1"] for entry in entries]
        spread = statistics.stdev(first) / math.sqrt(len(first)) if len(first) > 1 else math.nan
        t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}.get(len(first), 2.0)
        shown = [100 * statistics.mean(entry[name] for entry in entries) for name in SHOWN]
        regression = [
            50 * (entry["regression_R@1_image2text"] + entry["regression_R@1_text2image"])
            for entry in entries
        ]
        lines.append(
            f"| {row} | {len(first)} | {statistics.mean(first):.1f} (+-{t * spread:.1f}) | "
            + " | ".join(f"{value:.1f}" for value in shown)
            + f" | {statistics.mean(regression):.1f} |"
        )
    return [f"{seeds} seeds", "", *lines] if seeds else lines


if __name__ == "__main__":
    main()
