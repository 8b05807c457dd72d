"""LaMsS-style, its ablations and five baselines: who is right when willing to answer?

    python -m benchmarks.lamss facts --json benchmarks/results/lamss-facts.json
    python -m benchmarks.lamss commonsense_qa --json benchmarks/results/lamss-commonsense_qa.json
    python -m benchmarks.lamss facts --json FILE --table

Every row first reads the same text (of the made-up world; Wikipedia), plainly or with a skepticism
token after every token, and then learns the same questions. A model that has read is exported to
`--folder` and shared by the rows that start from it. `commonsense_qa` needs `ZOO_DATA`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning

import datamodules
import zoo
from benchmarks import trials
from benchmarks.lamss.table import table
from benchmarks.lamss.wikipedia import Wikipedia
from benchmarks.training import quiet_trainer
from zoo.export import save
from zoo.methods.lamss.questions import key, right

CHEAP = ["sequence", "entropy", "p_true", "verbalised"]
READINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("ConfidentSFT", {}),
    "five levels": ("LaMsS", {"num_levels": 5}),
    "two levels": ("LaMsS", {"num_levels": 2}),
}
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {  # reading, method, its arguments
    "SFT": ("plain", "ConfidentSFT", {"confidence": CHEAP}),
    "sure": ("plain", "ConfidentSFT", {"confidence": ["sure"]}),
    "LaMsS": ("five levels", "LaMsS", {"num_levels": 5}),
    "LaMsS, levels in the query": (
        "five levels",
        "LaMsS",
        {"num_levels": 5, "interleave_query": True},
    ),
    "LaMsS without CPT": ("plain", "LaMsS", {"num_levels": 5}),
    "LaMsS without interleaving": ("plain", "LaMsS", {"num_levels": 5, "interleave": False}),
    "LaMsS, N = 2": ("two levels", "LaMsS", {"num_levels": 2}),
}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {  # both together: an hour on one core
    "facts": {
        "text": {"steps": 75, "batch_size": 16, "lr": 1e-3},  # once through
        "questions": {"steps": 12, "batch_size": 8, "lr": 2e-5},
        "data": {"num_entities": 30, "num_values": 6, "frequencies": [0, 4, 20], "max_val": 8},
    },
    "commonsense_qa": {
        "text": {"steps": 8, "batch_size": 4, "lr": 2e-5},
        "questions": {"steps": 8, "batch_size": 8, "lr": 5e-5},
        "data": {"max_train": 32, "max_val": 8, "max_test": 102},
    },
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rows that are missing, then print the tables."""
    parser = trials.make_parser(__doc__, rows=RUNS)
    parser.add_argument("data", choices=SETTINGS)
    parser.add_argument("--steps", type=int, help="of both stages, instead of the settings'")
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--folder", default="runs/lamss", help="for the models that have read")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "data", "run", "seed")
    if not options.table:
        jobs = [(options.data, run, seed) for seed in options.seeds for run in options.rows]
        finished.run(jobs, partial(run_row, options=options))
    print("\n".join(table(trials.of_row(finished.entries, data=options.data))))


def run_row(data: str, run: str, seed: int, options: argparse.Namespace) -> trials.Entry:
    """Train and test one run; return its entry."""
    reading, method, given = RUNS[run]
    start = time.time()
    backbone = read_text(options, reading, seed)
    read = time.time()
    limit = "max_new_tokens" if method == "ConfidentSFT" else "max_answer_tokens"
    lightning.seed_everything(seed, verbose=False)
    setting = SETTINGS[data]["questions"]
    module = build(method, backbone, setting, {**given, limit: 12})
    records = questions(options, seed, setting["batch_size"])
    steps = fit(options, module, records, setting["steps"])
    trained = time.time()
    graded = answers(module, records.records("test"))
    return {
        "data": data,
        "run": run,
        "seed": seed,
        "reading": reading,
        "method": {"class": f"zoo.{method}", **given},
        "backbone": options.backbone,
        "precision": options.precision,
        "settings": SETTINGS[data],
        "steps": steps,
        "seconds": {
            "read": round(read - start),
            "train": round(trained - read),
            "test": round(time.time() - trained),
        },
        "questions": graded,
    }


def read_text(options: argparse.Namespace, reading: str, seed: int) -> str:
    """Return the folder of the model that has read the text, which is trained if it is missing."""
    parts = (Path(options.backbone).name, options.data, reading, options.steps or "all", seed)
    folder = Path(options.folder) / "-".join(str(part).replace(" ", "_") for part in parts)
    if folder.is_dir():
        return str(folder)
    method, given = READINGS[reading]
    setting = SETTINGS[options.data]["text"]
    lightning.seed_everything(seed, verbose=False)
    module = build(method, options.backbone, setting, given)
    sizes = {"batch_size": setting["batch_size"], "seed": seed}
    if options.data == "facts":
        data: Any = datamodules.FactWorld("text", **SETTINGS["facts"]["data"], **sizes)
    else:
        sizes["max_train"] = setting["steps"] * setting["batch_size"]  # all are labelled first
        data = Wikipedia(trials.data_path("llamafactory_demo_text"), **sizes)
    fit(options, module, data, setting["steps"])
    save(module, folder)
    return str(folder)


def questions(options: argparse.Namespace, seed: int, batch_size: int) -> Any:
    """Return the data module of the questions."""
    sizes: dict[str, Any] = {"batch_size": batch_size, "seed": seed}
    given = SETTINGS[options.data]["data"]
    if options.data == "facts":
        return datamodules.FactWorld(**given, **sizes)
    return datamodules.CommonsenseQA(trials.data_path("commonsense_qa"), **given, **sizes)


def build(method: str, backbone: str, setting: dict[str, Any], given: dict[str, Any]) -> Any:
    """Return a module of the zoo."""
    optimizer = {"lr": setting["lr"], "schedule": "cosine", "warmup_ratio": 0.05, "beta2": 0.99}
    return getattr(zoo, method)({"name": backbone}, optimizer, **given)


def fit(options: argparse.Namespace, module: Any, data: Any, steps: int) -> int:
    """Train; return the number of steps."""
    steps = options.steps or steps
    trainer = quiet_trainer(max_steps=steps, max_epochs=-1, precision=options.precision)
    trainer.fit(module, data)
    return steps


def answers(module: Any, records: Sequence[Any]) -> dict[str, Any]:
    """Return for each question its kind, whether the answer is right, and the doubt about it."""
    graded = {}
    for start in range(0, len(records), 32):
        part = records[start : start + 32]
        for record, answer in zip(part, module.answer(part), strict=True):
            doubts = {name: round(value, 5) for name, value in answer.skepticism.items()}
            correct = right(record, answer.text)
            graded[key(record)] = {"kind": record.kind, "right": correct, "skepticism": doubts}
    return dict(sorted(graded.items()))
