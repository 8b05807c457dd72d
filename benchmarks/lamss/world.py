"""LaMsS and plain fine-tuning in a small made-up world: whose doubt says who is right?

    python -m benchmarks.lamss.world --json benchmarks/results/lamss_world.json

A seed is a world of its own (`datamodules.FactWorld`: names, facts, questions) and a Llama of four
blocks from scratch that has read of it: each fact is told 0, 1, 2, 4 or 8 times in every epoch, in
sentences and as a question with its answer. From this model on the rows part. Each reads the same
once more as text, plainly or with a skepticism token after every token (continual pre-training),
then learns questions about some people, and is asked about others. `LaMsS, 460` has learned about
460 levels of answers, `SFT, 460` is plain fine-tuning on as many answers; without a number they are
the longest ones. Right and wrong, which the levels say, are answers of the model that all start
from. One thread.
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
from benchmarks.lamss.world_table import table
from benchmarks.small_models import bpe_tokenizer, write_llama
from benchmarks.training import DEVICE, quiet_trainer
from datamodules.base import ZooDataModule
from datamodules.fact_world_generator import World
from zoo.export import save
from zoo.methods.lamss.encoder import INSTRUCTION, LEVEL
from zoo.methods.lamss.metrics import auc
from zoo.methods.lamss.questions import OPEN_SYSTEM, key
from zoo.records import PlainText, Triple

SIZES: dict[str, Any] = {
    "people": 140,
    "values": 12,
    "told": (0, 1, 2, 4, 8),
    "vocabulary": 2048,
    "width": (64, 192),  # of the residual stream, inside the feed-forward layers
    "first": {"epochs": 8, "lr": 4e-3, "batch": 32},
    "again": {"epochs": 2, "lr": {"ConfidentSFT": 3e-4, "LaMsS": 1e-3}, "batch": 32},
    "batch": 16,  # examples of a step of the question stage
    "lr": 3e-4,
}
TOLD = "seen_"  # kinds of questions that training has, too
LENGTHS = {", 55": 55, ", 460": 460, "": 3700}  # level-token targets of the question stage
READINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("ConfidentSFT", {}),
    "five levels": ("LaMsS", {"num_levels": 5}),
    "two levels": ("LaMsS", {"num_levels": 2}),
}
SFT = ("plain", "ConfidentSFT", {"confidence": ["entropy", "sequence"]})
LAMSS = ("five levels", "LaMsS", {"num_levels": 5})
RUNS: dict[str, tuple[str, str, dict[str, Any], int]] = {  # reading, method, arguments, targets
    **{f"LaMsS{name}": (*LAMSS, targets) for name, targets in LENGTHS.items()},
    **{f"SFT{name}": (*SFT, targets) for name, targets in LENGTHS.items()},
    "LaMsS without CPT": ("plain", "LaMsS", {"num_levels": 5}, 3700),
    "LaMsS without interleaving": ("plain", "LaMsS", {"num_levels": 5, "interleave": False}, 3700),
    "LaMsS, N = 2": ("two levels", "LaMsS", {"num_levels": 2}, 3700),
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
    write_llama(start, bpe_tokenizer(words, SIZES["vocabulary"]), *SIZES["width"])
    lightning.seed_everything(seed, verbose=False)
    module = build("ConfidentSFT", start, setting["lr"])
    data = Told(told, told[:1], batch_size=setting["batch"], seed=seed)
    fit(module, data, setting["epochs"] * len(told) // setting["batch"])
    save(module, target)
    shutil.rmtree(start)
    return target


def second_reading(reading: str, seed: int, folder: Path) -> Path:
    """Return the folder of the model that has read the text again, with levels or without."""
    target = folder / f"{reading.replace(' ', '_')}-{seed}"
    if target.is_dir():
        return target
    start, setting = first_reading(seed, folder), SIZES["again"]
    world = made(seed)
    asked = [PlainText(f"{q.query} {q.answer}.", id=q.id) for q in told_in_chat(world)]
    text = [*world.text("train"), *asked]
    lightning.seed_everything(seed, verbose=False)
    method, given = READINGS[reading]
    module = build(method, start, setting["lr"][method], **given)
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
    learned, asked = known(world, "train", "val"), questions(world, "test")
    lightning.seed_everything(seed, verbose=False)
    if method == "LaMsS":  # right or wrong by what was known before the levels
        given = {**given, "label_from": str(first_reading(seed, options.folder))}
    module = build(method, backbone, SIZES["lr"], **given)
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
        shared |= level_figures(module, data, steps)
        doubts = {name: one["skepticism"]["response"] for name, one in graded.items()}
        shared["AUC of labels"] = label_auc(module, asked, doubts)
    names = [name for name in SCORES if name in next(iter(graded.values()))["skepticism"]]
    return [{"row": run + SCORES[name], **shared, **scored(graded, name)} for name in names]


@torch.no_grad()
def level_figures(module: Any, data: Told, steps: int) -> dict[str, float]:
    """Return how many levels were learned, of how many answers, and the loss on later ones."""
    encoder = module.encoder()
    examples = data.examples("train", encoder)
    second = [example for example in examples if LEVEL in example.head_ids]
    right = {e.record.id for e in second if encoder.level_ids[0] in e.labels}
    later = [e for e in data.examples("val", encoder) if LEVEL in e.head_ids]
    total = 0.0
    for i in range(0, len(later), 64):
        batch = encoder.collate(later[i : i + 64], {LEVEL: 1.0}).to(module.device)
        total += float(module.losses(batch)["level"].sum)
    return {
        "level_targets": round(steps * SIZES["batch"] * len(second) / len(examples)),
        "level_loss": round(total / len(later), 4),
        "answers": len({example.record.id for example in second}),
        "answers_right": len(right),
    }


def label_auc(module: Any, asked: Sequence[Triple], doubts: dict[str, float]) -> float:
    """Return the AUC of U for what its labels say: whether the model of before was right."""
    told = [q for q in asked if q.kind.startswith(TOLD)]
    right = [module.encoder().studied[q].level == 0 for q in told]
    return round(auc([doubts[key(q)] for q in told], right), 4)


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
