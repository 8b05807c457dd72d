"""MeTHanol and its controls on real ToMi questions, on one small base model.

    python -m benchmarks.methanol.tomi_small --json benchmarks/results/tomi_small.json

The base model is trained once to tell what happens in stories like those of ToMi's training file
(`tomi_base.py`; the folder `--base`, made if it is not there). Every row then trains all of its
weights on the questions of the training file, in the same steps, and answers equally many questions
of each kind of another file. Seeds change the order of the training questions. `hits` of an entry
say for each question, named `STORY/number`, whether it was answered.

Two rows need no training: `rule: present place`, and `tracker`, whose answer is the conclusion of
the thoughts that the other rows learn from. One thread; ToMi needs `ZOO_DATA`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks import trials
from benchmarks.methanol.small_worlds import RAW, answered, score_cell, trained
from benchmarks.methanol.tomi_base import questions, sentences, story_of, train_base
from datamodules import belief_tracker
from zoo.records import Triple

RULE, TRACKER = "rule: present place", "tracker"
ROWS = (RULE, TRACKER, "SFT(Q -> A)", "SFT(Q -> T, A)", RAW)
BELIEFS = ("false_belief", "true_belief")
KINDS = (*BELIEFS, "memory", "reality")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the table."""
    parser = trials.make_parser(__doc__, rows=ROWS, seeds=range(3))
    parser.add_argument("--base", type=Path, default=Path("runs/tomi_base"))
    parser.add_argument("--steps", type=int, default=1500, help="of 16 questions")
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--split", choices=("val", "test"), default="test", help="asked about")
    parser.add_argument("--questions", type=int, default=300, help="of each kind")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "split", "row", "lr", "steps", "seed")
    if not options.table:
        torch.set_num_threads(1)
        path = trials.data_path("tomi")
        learned = questions(path, "train")
        asked = drawn(questions(path, options.split), options.questions)
        if not (options.base / "model.safetensors").is_file():
            train_base(learned, options.base)
        run = partial(run_row, learned=learned, asked=asked, base=options.base)
        finished.run(jobs(options), run)
    print("\n".join(table(trials.of_row(finished.entries, split=options.split))))


def jobs(options: argparse.Namespace) -> list[trials.Job]:
    """Return split, row, rate, steps and seed, every row of a seed before the next seed."""
    fixed = (RULE, TRACKER)
    return [
        (options.split, row, *((0.0, 0) if row in fixed else (options.lr, options.steps)), seed)
        for seed in options.seeds
        for row in options.rows
    ]


def drawn(asked: Sequence[Triple], count: int) -> list[Triple]:
    """Return the first questions of each kind, as many of each."""
    return [each for kind in KINDS for each in [q for q in asked if q.kind == kind][:count]]


def run_row(
    split: str,
    row: str,
    lr: float,
    steps: int,
    seed: int,
    *,
    learned: Sequence[Triple],
    asked: Sequence[Triple],
    base: Path,
) -> trials.Entry:
    """Train and test one row; return its entry."""
    start = time.process_time()
    entry: trials.Entry = {"split": split, "row": row, "lr": lr, "steps": steps, "seed": seed}
    if row in (RULE, TRACKER):
        answers = [present_place(each) if row == RULE else concluded(each) for each in asked]
        return {**entry, **scores(asked, answers), "seconds": round(time.process_time() - start)}
    module = trained(row, lr, seed, steps, learned, base)
    replies = answered(module, asked)
    entry |= scores(asked, [reply.answer for reply in replies])
    if module.hparams.get("learn_thought", True):
        right = [r.thought == each.thought for r, each in zip(replies, asked, strict=True)]
        entry["metrics"]["thoughts"] = round(statistics.mean(right), 4)
    known = drawn(learned, 40)
    found = scores(known, [reply.answer for reply in answered(module, known)])
    entry["metrics"] |= {f"train_{name}": found["metrics"][name] for name in ("accuracy", "belief")}
    return {**entry, "seconds": round(time.process_time() - start)}


def present_place(question: Triple) -> str:
    """Return where the object is at the end of the story."""
    return f"the {belief_tracker.track(sentences(story_of(question))).now}"


def concluded(question: Triple) -> str:
    """Return the place that a thought ends with, or names alone."""
    place = question.thought.removesuffix(" at the beginning.").removesuffix(".").split()[-1]
    return f"the {place}"


def scores(asked: Sequence[Triple], answers: Sequence[str]) -> trials.Entry:
    """Return hits of each question by its name, of beliefs and of each kind, and their means."""
    stories = {story: i for i, story in enumerate(dict.fromkeys(map(story_of, asked)))}
    hits: dict[str, dict[str, int]] = {name: {} for name in ("belief", *KINDS)}
    right = [int(each.answer == answer) for each, answer in zip(asked, answers, strict=True)]
    for number, (each, hit) in enumerate(zip(asked, right, strict=True)):
        name = f"{stories[story_of(each)]}/{number}"
        hits[each.kind][name] = hit
        if each.kind in BELIEFS:
            hits["belief"][name] = hit
    means = {name: round(statistics.mean(found.values()), 4) for name, found in hits.items()}
    return {"metrics": {"accuracy": round(statistics.mean(right), 4), **means}, "hits": hits}


def table(entries: Sequence[trials.Entry]) -> list[str]:
    """Return a Markdown table: percent right by kind, means over seeds."""
    names = ("train_accuracy", "train_belief", "thoughts", "accuracy", "belief", *KINDS)
    runs = sorted({(e["lr"], e["steps"]) for e in entries})
    rows = [
        [row, f"{lr:g}", str(steps), str(len(mine)), *(score_cell(mine, name) for name in names)]
        for lr, steps in runs
        for row, mine in trials.by_row(trials.of_row(entries, lr=lr, steps=steps), ROWS)
    ]
    return trials.markdown(["row", "lr", "steps", "seeds", *names], rows)


if __name__ == "__main__":
    main()
