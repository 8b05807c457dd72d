"""Planners of support strategies, without replies, on all of ESConv's test decisions.

    python -m benchmarks.straq.planners --json benchmarks/results/straq-planners.json
    python -m benchmarks.straq.planners --json benchmarks/results/straq-planners.json --table
    python -m benchmarks.reproduce straq      # differences, paired by seed and by dialogue

straQ* (imit), its ablations and rules that read no words. Every planner is a Llama of four blocks
from scratch: the seed draws its weights, the order of the training decisions and the strategies
that are judged beside the logged ones. Its BPE tokenizer has seen the training dialogues; what all
prompts share (system turn, question, speakers with their strategies) is one token each. Of a turn
the first 160 characters are read; the seeker's description of the situation is left out.

First each trained row's learning rate is chosen: the one of `RATES` with the best accuracy on the
validation decisions (`split: val`) after `SEARCH_STEPS` steps, with a seed that is not in the
table. Then all rows run on the test decisions, a seed of every row before the next seed. Needs
`ZOO_DATA`; one thread.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

import zoo
from benchmarks import trials
from benchmarks.reproduce.verdict import interval
from benchmarks.small_models import bpe_tokenizer, write_llama
from benchmarks.straq.planner_scores import SCORES, by_dialogue, of_plans
from benchmarks.support import data
from benchmarks.support.lookup import KEYS, look_up
from benchmarks.support.models import OPTIMIZER
from benchmarks.training import GivenRecords, quiet_trainer
from zoo.methods.straq.encoder import TransitionEncoder
from zoo.methods.straq.prompts import LEAD, PLAN_SYSTEM, line, opening, question
from zoo.records import Dialogue
from zoo.support.decisions import Decision, decisions
from zoo.support.labels import STRATEGIES, SUPPORT

TRAINED: dict[str, dict[str, Any]] = {
    "straQ*, imit": {},
    "straQ*, autoregressive": {"objective": "cross_entropy"},
    "straQ*, value head": {"readout": "value_head"},
    "straQ*, imit, gamma = 0": {"gamma": 0.0},
}
TITLES = ("Acc", "Q", "B")  # of `SCORES`
DRAWN = "class prior, drawn"
ROWS = (*TRAINED, *KEYS, DRAWN)
RATES = (1e-3, 2e-3, 4e-3)
SEARCH_SEED, SEARCH_STEPS = 100, 200  # of the runs that choose a learning rate
SIZE = (64, 168)  # width, inner width
DEVIATION = 0.1  # standard deviation of weights; at 0.02 so narrow a model hardly learns at first
VOCABULARY = 4096
WINDOW = 112  # tokens: the question, problem, emotion and the last turns
CHARACTERS = 160  # of a turn
BATCH = 16  # decisions of a step
SEEN = 50  # training dialogues that a trained planner is asked about afterwards


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the tables."""
    parser = trials.make_parser(__doc__, rows=ROWS, seeds=range(5))
    parser.add_argument("--steps", type=int, default=400, help=f"of {BATCH} decisions each")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "split", "row", "lr", "seed")
    if not options.table:
        torch.set_num_threads(1)
        rows = [row for row in options.rows if row in TRAINED]
        search = partial(run_row, steps=SEARCH_STEPS)
        finished.run(product(["val"], rows, RATES, [SEARCH_SEED]), search)
        run = partial(run_row, steps=options.steps)
        for seed, row in product(options.seeds, options.rows):
            finished.run([("test", row, best_rate(finished.entries, row), seed)], run)
    print("\n".join(tables(finished.entries)))


def best_rate(entries: Sequence[trials.Entry], row: str) -> float:
    """Return the learning rate of a row that has the best validation accuracy; 0 for a rule."""
    tried = trials.of_row(entries, split="val", row=row)
    return max(tried, key=lambda e: e["metrics"]["accuracy"])["lr"] if tried else 0.0


def run_row(split: str, row: str, lr: float, seed: int, *, steps: int) -> trials.Entry:
    """Train one row, plan every decision of a split; return the entry."""
    start = time.process_time()
    asked = points(split)
    learned: dict[str, Any] = {}
    if row in TRAINED:
        module = trained(lr, seed, steps, TRAINED[row])
        plans = planned(module, dialogues(split))
        again = dialogues("train")[:SEEN]
        known = [point for dialogue in again for point in decisions(dialogue)]
        hits = [p == d.target.strategy for p, d in zip(planned(module, again), known, strict=True)]
        learned = {"steps": steps, "train_accuracy": round(100 * statistics.mean(hits), 2)}
    else:
        plans = by_rule(row, asked, seed)
    found = by_dialogue(asked, plans)
    gold = by_dialogue(asked, [decision.target.strategy for decision in asked])
    return {
        "split": split,
        "row": row,
        "lr": lr,
        "seed": seed,
        **learned,
        "decisions": len(asked),
        "seconds": round(time.process_time() - start),
        **of_plans(found, gold),
        "found": found,
    }


@cache
def dialogues(split: str) -> list[Dialogue]:
    """Return ESConv's dialogues as the planners read them."""
    return [shortened(record) for record in data.read("esconv", split)]


@cache
def points(split: str) -> list[Decision]:
    """Return the decisions of a split's dialogues, in order."""
    return [point for dialogue in dialogues(split) for point in decisions(dialogue)]


def shortened(dialogue: Dialogue) -> Dialogue:
    """Return a dialogue without its situation, each turn cut to `CHARACTERS`."""
    turns = tuple(replace(turn, text=turn.text[:CHARACTERS]) for turn in dialogue.turns)
    return replace(dialogue, situation="", turns=turns)


def by_rule(row: str, asked: Sequence[Decision], seed: int) -> list[str]:
    """Return the plans of a rule that is counted on all training decisions."""
    if row in KEYS:
        return look_up(row, points("train"), asked)
    used = Counter(decision.target.strategy for decision in points("train"))
    shares = np.array([used[name] for name in STRATEGIES]) / used.total()
    return list(np.random.default_rng(seed).choice(STRATEGIES, len(asked), p=shares))


@cache
def tokenizer() -> Any:
    """Return the planners' tokenizer, of the training dialogues."""
    made = bpe_tokenizer(
        (
            opening(told[0]) + "".join(map(line, told[-1].turns)) + f"system user assistant {LEAD}"
            for told in map(decisions, dialogues("train"))
        ),
        VOCABULARY,
    )
    said = ["Seeker:", *(f"Supporter ({name}):" for name in STRATEGIES)]
    made.add_tokens([PLAN_SYSTEM, "Dialogue so far:\n", question(SUPPORT), *said])
    return made


def trained(lr: float, seed: int, steps: int, settings: dict[str, Any]) -> zoo.StraQ:
    """Return a planner after so many steps; rows of one seed start with the same weights."""
    with tempfile.TemporaryDirectory() as folder:
        write_planner(Path(folder), seed)
        module = zoo.StraQ(
            backbone={"name": folder},
            optimizer={"lr": lr, "final_ratio": 0.1, **OPTIMIZER},
            max_length=WINDOW,
            seed=seed,
            **settings,
        )
        torch.manual_seed(seed)
        given = {"batch_size": BATCH, "seed": seed, "too_long": "drop", "max_val": 1}
        records = GivenRecords(dialogues("train"), **given)
        trainer = quiet_trainer(max_steps=steps, max_epochs=-1, accelerator="cpu")
        trainer.fit(module, records)
    return module.eval()


def write_planner(folder: Path, seed: int) -> None:
    """Write a Llama with weights of this seed, and the tokenizer, as a folder to load."""
    write_llama(folder, tokenizer(), *SIZE, window=WINDOW, seed=seed, deviation=DEVIATION)


@torch.no_grad()
def planned(module: zoo.StraQ, asked: Sequence[Dialogue]) -> list[str]:
    """Return the strategy with the highest value at every decision; like lengths share a batch."""
    encoder: TransitionEncoder = module.encoder()
    prompts = [example.ids for dialogue in asked for example in encoder(dialogue)]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    plans = [""] * len(prompts)
    for start in range(0, len(order), 2 * BATCH):
        part = order[start : start + 2 * BATCH]
        values = module(encoder.prompts([prompts[i] for i in part]))
        for i, plan in zip(part, module.plans(values), strict=True):
            plans[i] = plan.strategy
    return plans


def tables(entries: Sequence[trials.Entry]) -> list[str]:
    """Return Markdown tables: the rates that were tried, and the rows on the test decisions."""
    tried = sorted(
        trials.of_row(entries, split="val"), key=lambda e: (ROWS.index(e["row"]), e["lr"])
    )
    rates = [
        [e["row"], f"{e['lr']:g}", f"{e['metrics']['accuracy']:.1f}", f"{e['train_accuracy']:.1f}"]
        for e in tried
    ]
    rows = [
        [row, str(len(mine)), *(score_cell(mine, name) for name in SCORES), *_last_cells(mine)]
        for row, mine in trials.by_row(trials.of_row(entries, split="test"), ROWS)
    ]
    return [
        *trials.markdown(["row", "rate", "validation Acc", "train Acc"], rates),
        "",
        *trials.markdown(["row", "seeds", *TITLES, "named", "train Acc", "rate"], rows),
    ]


def score_cell(entries: Sequence[trials.Entry], name: str) -> str:
    """Return a mean over seeds +- 95 % over dialogues, and its standard deviation over seeds."""
    values = [entry["metrics"][name] for entry in entries]
    items = np.array([list(entry["items"][name].values()) for entry in entries]).mean(0)
    digits = 2 if name == "bias" else 1
    cell = f"{statistics.mean(values):.{digits}f} +-{interval(items)[0]:.{digits}f}"
    return cell + (f" ({statistics.stdev(values):.{digits}f})" if len(values) > 1 else "")


def _last_cells(entries: Sequence[trials.Entry]) -> list[str]:
    named = f"{trials.mean_metric(entries, 'named'):.1f}"
    if entries[0]["row"] not in TRAINED:
        return [named, "-", "-"]
    seen = statistics.mean(entry["train_accuracy"] for entry in entries)
    return [named, f"{seen:.1f}", f"{entries[0]['lr']:g}"]


if __name__ == "__main__":
    main()
