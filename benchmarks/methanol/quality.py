"""MeTHanol and its controls on ToMi: accuracy by kind of question, one JSON entry per row and seed.

    python -m benchmarks.methanol --json benchmarks/results/tomi.json
    python -m benchmarks.methanol --moves 2 --json benchmarks/results/two_moves.json

Every row is trained by `python -m zoo fit` and scored by `python -m zoo test` on the same test
questions, in as many steps of at most the same number of tokens each. ToMi needs `ZOO_DATA`; with
`--moves` the stories are generated, and steps, batches and learning rate those of the configs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from benchmarks import trials

KINDS = ("false_belief", "true_belief", "memory", "reality")
ROWS: dict[str, list[str]] = {
    "MeTHanol (k = 26)": ["--config", "configs/methanol_tomi.yaml"],
    "SFT(Q -> A)": ["--config", "configs/sft_tomi.yaml"],
    "SFT(Q -> T, A)": ["--config", "configs/sft_thought_tomi.yaml"],
    "direct": ["--config", "configs/sft_tomi.yaml"],
}
GENERATED = {  # the same rows on stories of `datamodules.FalseBelief`
    "MeTHanol (k = 26)": ["--config", "configs/methanol.yaml"],
    "SFT(Q -> A)": ["--config", "configs/sft.yaml"],
    "SFT(Q -> T, A)": ["--config", "configs/sft_thought.yaml"],
    "direct": ["--config", "configs/sft.yaml"],
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rows that are missing, then print the table."""
    parser = trials.make_parser(__doc__, rows=ROWS, seeds=[0, 1])
    parser.add_argument("--moves", type=int, choices=(1, 2), help="generated stories, not ToMi")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--steps", type=int, help="100 on ToMi, else those of the configs: 160")
    parser.add_argument("--tokens", type=int, default=384, help="at most so many per step")
    parser.add_argument("--questions", type=int, default=96)
    parser.add_argument("--lr", type=float, help="1e-4 on ToMi, else those of the configs: 1.5e-4")
    parser.add_argument("--jobs", type=int, default=2, help="rows at a time, one thread each")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "row", "seed")
    if not options.table:
        jobs = [
            (row, seed)
            for seed in options.seeds
            for row in options.rows
            if row != "direct" or seed == options.seeds[0]
        ]
        with ThreadPoolExecutor(options.jobs) as pool:
            running = [pool.submit(run_row, r, s, options) for r, s in finished.missing(jobs)]
            for done in as_completed(running):
                finished.add(done.result())
    print("\n".join(table(finished.entries)))


def run_row(row: str, seed: int, options: argparse.Namespace) -> trials.Entry:
    """Train and test one row in a scratch folder; return its entry."""
    scratch = Path(tempfile.mkdtemp(prefix="beliefs-"))
    config = (GENERATED if options.moves else ROWS)[row]
    steps = options.steps or (160 if options.moves else 100)
    lr = options.lr or (1.5e-4 if options.moves else 1e-4)
    common = [
        *config,
        *data_arguments(options),
        *("--data.max_test", str(options.questions), "--model.max_generated", "null"),
        *("--model.backbone.name", options.backbone),
        *("--seed_everything", str(seed), "--data.seed", str(seed)),
        *("--trainer.enable_progress_bar", "false"),
    ]
    train = [
        *("--model.optimizer.lr", str(lr)),
        *("--trainer.max_steps", str(steps), "--trainer.limit_val_batches", "0"),
        *("--trainer.default_root_dir", str(scratch / "train")),
        *("--checkpoint.every_n_train_steps", str(steps)),
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
        "command": f"python -m zoo fit {' '.join(config)}",
        "backbone": options.backbone,
        "moves": options.moves,
        "steps": 0 if row == "direct" else steps,
        "tokens_per_step": None if options.moves else options.tokens,
        "lr": lr,
        "questions": options.questions,
        "seconds": {"train": round(trained - start), "test": round(time.time() - trained)},
        "metrics": scalars(scratch / "test"),
        "training": scalars(scratch / "train") if row != "direct" else {},
    }
    shutil.rmtree(scratch)
    return entry


def data_arguments(options: argparse.Namespace) -> list[str]:
    """Return the arguments of the data: ToMi in steps of so many tokens, or generated stories."""
    if options.moves:
        return ["--data.moves", str(options.moves)]
    path = f"{trials.data_path('tomi')}/tomi_balanced_story_types.zip"
    return [
        "--data.path",
        path,
        "--data.batch_size",
        "64",
        "--data.max_tokens",
        str(options.tokens),
    ]


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


def table(results: Sequence[trials.Entry]) -> list[str]:
    """Return a Markdown table: mean over seeds per row, with the interval of the total."""
    kinds = [*KINDS]
    if any(entry.get("moves") == 2 for entry in results):
        kinds.insert(2, "second_order")
    rows = []
    for row, entries in trials.by_row(results, ROWS):
        names = [*(f"test/accuracy_{kind}" for kind in kinds), "test/mention_accuracy"]
        share = trials.mean_metric(entries, "test/accuracy")
        accuracy = trials.percent_of(share, sum(entry["questions"] for entry in entries))
        means = trials.percent(*(trials.mean_metric(entries, name) for name in names))
        rows.append([row, str(len(entries)), accuracy, *means])
    titles = ["row", "seeds", "all (95 % interval)", *kinds, "all, lenient"]
    return trials.markdown(titles, rows)
