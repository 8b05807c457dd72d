"""LaMsS and plain fine-tuning in a small made-up world: whose doubt says who is right?

    python -m benchmarks.lamss.world --json benchmarks/results/lamss_world.json

A seed is a world of its own (`datamodules.FactWorld`: names, facts, questions) and a Llama of four
blocks from scratch that has read of it: each fact is told 0, 1, 4 or 16 times in every epoch, in
sentences and as a question with its answer. From this model on the rows part. Each reads the same
once more, plainly or with a skepticism token after every token (continual pre-training), then
learns questions about some people, and is asked about others. `LaMsS, 460` has learned about 460
levels of answers, `SFT, 460` is plain fine-tuning on as many answers; without a number they are the
longest ones. Right and wrong, which the levels say, are answers of the model that all start from.

`AUC, shown` is of U for later answers of *that* model, shown with their tokens' levels as in
training, `AUC of the levels shown` of these levels alone. The other metrics are of use: the trained
model's own answers, with levels that it has written itself. One thread.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch

import zoo
from benchmarks import trials
from benchmarks.lamss.quality import answers
from benchmarks.lamss.table import METRICS
from benchmarks.lamss.world_levels import TOLD, level_figures
from benchmarks.lamss.world_table import table
from benchmarks.small_models import bpe_tokenizer, write_llama
from benchmarks.training import DEVICE, quiet_trainer
from datamodules.base import ZooDataModule
from datamodules.fact_world_generator import World
from zoo.export import save
from zoo.methods.lamss.encoder import INSTRUCTION, LEVEL
from zoo.methods.lamss.questions import OPEN_SYSTEM
from zoo.records import PlainText, Triple

SIZES: dict[str, Any] = {
    "people": 400,  # training asks about 240 of them: with 84, questions are learned by heart
    "values": 12,
    "told": (0, 1, 4, 16),
    "vocabulary": 2048,
    "width": (64, 192),  # of the residual stream, inside the feed-forward layers
    "first": {"epochs": 2, "lr": 4e-3, "batch": 32},
    "again": {"epochs": 1, "lr": 3e-4, "batch": 32},
    "batch": 16,  # examples of a step of the question stage
    "lr": {"ConfidentSFT": 3e-4, "LaMsS": 1e-3},
    "strange": 160,  # questions about a relation or a person that training does not know
}
LENGTHS = {", 55": 55, ", 460": 460, "": 3700}  # level-token targets of the question stage
SHARED = {"shared_positions": True}  # or the network forgets most of what it knows
READINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("ConfidentSFT", {}),
    "levels": ("LaMsS", SHARED),
}
SFT = ("plain", "ConfidentSFT", {"confidence": ["entropy", "sequence"]})
LAMSS = ("levels", "LaMsS", SHARED)
RUNS: dict[str, tuple[str, str, dict[str, Any], int]] = {  # reading, method, arguments, targets
    **{f"LaMsS{name}": (*LAMSS, targets) for name, targets in LENGTHS.items()},
    **{f"SFT{name}": (*SFT, targets) for name, targets in LENGTHS.items()},
    "LaMsS without interleaving": ("plain", "LaMsS", {"interleave": False}, 3700),
}
MAIN = [f"{method}{name}" for method in ("LaMsS", "SFT") for name in LENGTHS]
SCORES = {"response": "", "entropy": ", token entropy", "sequence": ", 1 - p(A given Q)"}
SCORES |= {"tokens": ", mean of the tokens", "both": ", mean of both"}


class Told(ZooDataModule):
    """Given sentences and questions.

    Args:
        records: What is trained on.
        later: What validation holds.
    """

    record_types = (PlainText, Triple)

    def __init__(self, records: Sequence[Any], later: Sequence[Any], **options: Any) -> None:
        super().__init__(**options)
        self.given, self.later = list(records), list(later)

    def load(self, split: str) -> list[Any]:
        """Return the records of a split."""
        return list(self.given if split == "train" else self.later)


def made(seed: int) -> World:
    """Return the world of a seed."""
    return World(SIZES["people"], SIZES["values"], SIZES["told"], seed)


def questions(world: World, *splits: str) -> list[Triple]:
    """Return the open questions of splits."""
    return [world.triple(*asked) for split in splits for asked in world.asked(split)]


def known(world: World, *splits: str) -> list[Triple]:
    """Return the questions of splits about facts of people and relations that training has."""
    return [q for q in questions(world, *splits) if q.kind.startswith(TOLD)]


def test(world: World) -> list[Triple]:
    """Return what all rows are asked: the known kinds of questions, then some strange ones."""
    strange = [q for q in questions(world, "test") if not q.kind.startswith(TOLD)]
    return known(world, "test") + strange[: SIZES["strange"]]


def told_in_chat(world: World) -> list[Triple]:
    """Return every fact as a question and its answer, as often as the text tells it."""
    records = [(world.triple(f, f.kind, f"{f.who}, {f.relation.name}"), f) for f in world.facts]
    return [record for record, fact in records for _ in range(fact.times)]


def build(method: str, backbone: Path, lr: float, **given: Any) -> Any:
    """Return a module of the zoo."""
    optimizer = {"lr": lr, "schedule": "cosine", "warmup_ratio": 0.05, "beta2": 0.99}
    if method == "ConfidentSFT":
        given = {"confidence": ["entropy"], "max_new_tokens": 8, **given}
    else:
        given = {"max_answer_tokens": 8, **given}
    return getattr(zoo, method)({"name": str(backbone)}, optimizer, max_length=512, **given)


def fit(module: Any, data: Told, steps: int) -> None:
    """Train for so many steps."""
    quiet_trainer(max_steps=steps, max_epochs=-1).fit(module, data)


def first_reading(seed: int, folder: Path) -> Path:
    """Return the folder of the model that all rows of a seed start from; train it if need be."""
    target = folder / f"first-{seed}"
    if target.is_dir():
        return target
    world, setting = made(seed), SIZES["first"]
    asked = told_in_chat(world)
    told = [*world.text("train"), *asked]
    start = folder / f"random-{seed}"
    words = [t.text for t in world.text("train")] + [f"{q.query} {q.answer}" for q in asked]
    names = [f"{value} {value}" for values in world.values.values() for value in values]
    words += [*names, OPEN_SYSTEM, INSTRUCTION, "system user assistant"] * 100
    width, inner = SIZES["width"]
    tokenizer = bpe_tokenizer(words, SIZES["vocabulary"])
    write_llama(start, tokenizer, width, inner, seed=seed, deviation=width**-0.5)
    lightning.seed_everything(seed, verbose=False)
    module = build("ConfidentSFT", start, setting["lr"])
    data = Told(told, told[:1], batch_size=setting["batch"], seed=seed)
    fit(module, data, setting["epochs"] * len(told) // setting["batch"])
    save(module, target)
    shutil.rmtree(start)
    return target


def second_reading(reading: str, seed: int, folder: Path) -> Path:
    """Return the folder of the model that has read the text again, with levels or without."""
    target = folder / f"{reading}-{seed}"
    if target.is_dir():
        return target
    start, setting = first_reading(seed, folder), SIZES["again"]
    world = made(seed)
    asked = [PlainText(f"{q.query} {q.answer}.", id=q.id) for q in told_in_chat(world)]
    text = [*world.text("train"), *asked]
    lightning.seed_everything(seed, verbose=False)
    method, given = READINGS[reading]
    module = build(method, start, setting["lr"], **given)
    data = Told(text, text[:1], batch_size=setting["batch"], seed=seed)
    fit(module, data, setting["epochs"] * len(text) // setting["batch"])
    save(module, target)
    return target


def run_row(run: str, seed: int, options: argparse.Namespace) -> list[trials.Entry]:
    """Train and test a run; return an entry for each of its scores."""
    start = time.process_time()
    reading, method, given, targets = RUNS[run]
    backbone = second_reading(reading, seed, options.folder)
    read = time.process_time()
    world = made(seed)
    learned, asked = known(world, "train", "val"), test(world)
    lightning.seed_everything(seed, verbose=False)
    if method == "LaMsS":  # right or wrong by what was known before the levels
        given = {**given, "label_from": str(first_reading(seed, options.folder))}
    module = build(method, backbone, SIZES["lr"][method], **given)
    data = Told(learned, asked, batch_size=SIZES["batch"], seed=seed)
    # of LaMsS, half of the examples are second passes; all rows of a length see as many answers
    steps = (2 if method == "LaMsS" else 1) * targets // SIZES["batch"]
    fit(module, data, steps)
    graded = answers(module.to(DEVICE), asked)
    seconds = {"read": read - start, "questions": time.process_time() - read}
    shared = {
        "run": run,
        "seed": seed,
        "sizes": SIZES,
        "steps": steps,
        "cpu_seconds": {name: round(value) for name, value in seconds.items()},
    }
    if method == "LaMsS":
        shared["level_targets"] = level_targets(module, data, steps)
        shared |= level_figures(module, data)
    names = [name for name in SCORES if name in next(iter(graded.values()))["skepticism"]]
    return [{"row": run + SCORES[name], **shared, **scored(graded, name)} for name in names]


def level_targets(module: Any, data: Told, steps: int) -> int:
    """Return how many levels of answers were learned."""
    examples = data.examples("train", module.encoder())
    share = sum(LEVEL in example.head_ids for example in examples) / len(examples)
    return round(steps * SIZES["batch"] * share)


def scored(graded: dict[str, Any], score: str) -> trials.Entry:
    """Return metrics of a score, accuracy and mean doubt by kind, and every question's doubt."""
    doubts = [round(one["skepticism"][score], 4) for one in graded.values()]
    right = [bool(one["right"]) for one in graded.values()]
    kinds = [one["kind"] for one in graded.values()]
    told = [i for i, kind in enumerate(kinds) if kind.startswith(TOLD)]
    by_kind = {}
    for kind in sorted(set(kinds)):
        chosen = [i for i, name in enumerate(kinds) if name == kind]
        pair = [sum(values[i] for i in chosen) / len(chosen) for values in (right, doubts)]
        by_kind[kind] = [round(value, 4) for value in pair]
    return {
        "metrics": figures([doubts[i] for i in told], [right[i] for i in told]),
        "with_strange": figures(doubts, right),
        "by_kind": by_kind,
        "right": "".join(str(int(value)) for value in right),
        "doubts": doubts,
    }


def figures(doubts: Sequence[float], right: Sequence[bool]) -> dict[str, float]:
    """Return every metric of these questions, by name."""
    return {name: round(metric(doubts, right), 4) for name, metric in METRICS.items()}


def jobs(options: argparse.Namespace) -> list[trials.Job]:
    """Return run and seed: the comparison of all seeds before the ablations of any."""
    parts = [[r for r in options.rows if (r in MAIN) is first] for first in (True, False)]
    return [(run, seed) for part in parts for seed in options.seeds for run in part]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rows that are missing, then print the tables."""
    parser = trials.make_parser(__doc__, rows=RUNS, seeds=range(1, 6))
    parser.add_argument("--folder", type=Path, default=Path("runs/lamss_world"), help="of models")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "run", "seed")
    if not options.table:
        torch.set_num_threads(1)
        for run, seed in finished.missing(jobs(options)):
            for entry in run_row(run, seed, options):
                finished.add(entry)
    print("\n".join(table(finished.entries)))


if __name__ == "__main__":
    main()
