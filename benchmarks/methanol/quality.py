"""MeTHanol and its controls on ToMi: accuracy by kind of question, one JSON entry per row and seed.

    python -m benchmarks.methanol --json benchmarks/results/tomi.json

Every row is trained by `python -m zoo fit` and scored by `python -m zoo test` on the same test
questions, with the same number of steps of at most the same number of tokens each. Rows that the
JSON already holds are skipped, so a killed run goes on where it was. Needs `ZOO_DATA`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import date
from pathlib import Path
from typing import Any

KINDS = ("false_belief", "true_belief", "memory", "reality")
ROWS: dict[str, list[str]] = {
    "MeTHanol (k = 26)": ["--config", "configs/methanol_tomi.yaml"],
    "SFT(Q -> A)": ["--config", "configs/sft_tomi.yaml"],
    "SFT(Q -> T, A)": ["--config", "configs/sft_thought_tomi.yaml"],
    "direct": ["--config", "configs/sft_tomi.yaml"],
}


def main() -> None:
    """Run the rows that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", default=f"benchmarks/results/tomi-{date.today()}.json")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=384, help="at most so many per step")
    parser.add_argument("--questions", type=int, default=96)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--jobs", type=int, default=2, help="rows at a time, one thread each")
    options = parser.parse_args()
    if "ZOO_DATA" not in os.environ:
        sys.exit("set ZOO_DATA to the folder that holds tomi/tomi_balanced_story_types.zip")
    path = Path(options.json)
    results: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    done = {(entry["row"], entry["seed"]) for entry in results}
    rows = [
        (row, seed)
        for seed in options.seeds
        for row in ROWS
        if (row, seed) not in done and (row != "direct" or seed == options.seeds[0])
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        for job in as_completed([pool.submit(run_row, *row, options) for row in rows]):
            results.append(job.result())
            path.write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(table(results)))


def run_row(row: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and test one row in a scratch folder; return its entry."""
    scratch = Path(tempfile.mkdtemp(prefix="tomi-"))
    common = [
        *ROWS[row],
        *("--data.path", f"{os.environ['ZOO_DATA']}/tomi/tomi_balanced_story_types.zip"),
        *("--data.max_test", str(options.questions), "--model.max_generated", "null"),
        *("--data.batch_size", "64", "--data.max_tokens", str(options.tokens)),
        *("--seed_everything", str(seed), "--data.seed", str(seed)),
        *("--trainer.enable_progress_bar", "false"),
    ]
    train = [
        *("--model.optimizer.lr", str(options.lr)),
        *("--trainer.max_steps", str(options.steps), "--trainer.limit_val_batches", "0"),
        *("--trainer.default_root_dir", str(scratch / "train")),
        *("--checkpoint.every_n_train_steps", str(options.steps)),
    ]
    start = time.time()
    last: list[str] = []
    if row != "direct":
        zoo("fit", [*common, *train], options.jobs)
        last = ["--ckpt_path", str(scratch / "train" / "checkpoints" / "last.ckpt")]
    trained = time.time()
    place = ["--trainer.default_root_dir", str(scratch / "test")]
    zoo("test", [*common, *last, *place], options.jobs)
    entry = {
        "row": row,
        "seed": seed,
        "command": f"python -m zoo fit {' '.join(ROWS[row])}",
        "steps": 0 if row == "direct" else options.steps,
        "tokens_per_step": options.tokens,
        "lr": options.lr,
        "questions": options.questions,
        "seconds": {"train": round(trained - start), "test": round(time.time() - trained)},
        "metrics": scalars(scratch / "test"),
        "training": scalars(scratch / "train") if row != "direct" else {},
        "date": str(date.today()),
    }
    shutil.rmtree(scratch)
    return entry


def zoo(verb: str, arguments: list[str], jobs: int) -> None:
    """Run a command of the zoo on its share of the cores; its output is shown."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    command = [sys.executable, "-m", "zoo", verb, *arguments]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": threads})


def scalars(folder: Path) -> dict[str, float]:
    """Return the last value of every scalar that a run logged."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: round(events.Scalars(tag)[-1].value, 4) for tag in sorted(tags)}


def wilson(share: float, total: float, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share out of `total` trials."""
    middle = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def table(results: list[dict[str, Any]]) -> list[str]:
    """Return a Markdown table: mean over seeds per row, with the interval of the total."""
    names = ["accuracy", *(f"accuracy_{kind}" for kind in KINDS)]
    lines = [
        "| row | seeds | all (95 % interval) | " + " | ".join(KINDS) + " | all, lenient |",
        "|---|---|---|" + "---|" * (len(KINDS) + 1),
    ]
    for row in ROWS:
        entries = [entry for entry in results if entry["row"] == row]
        if not entries:
            continue

        def mean(name: str, entries: list[dict[str, Any]] = entries) -> float:
            return sum(e["metrics"].get(f"test/{name}", 0.0) for e in entries) / len(entries)

        low, high = wilson(mean("accuracy"), sum(entry["questions"] for entry in entries))
        values = [f"{100 * mean(name):.1f}" for name in names[1:]]
        lines.append(
            f"| {row} | {len(entries)} | {100 * mean('accuracy'):.1f} "
            f"({100 * low:.1f}-{100 * high:.1f}) | {' | '.join(values)} | "
            f"{100 * mean('mention_accuracy'):.1f} |"
        )
    return lines


if __name__ == "__main__":
    main()
