"""MeTHanol and its controls on one small base model, on stories of one move or two.

    python -m benchmarks.methanol.small_worlds --json benchmarks/results/two_moves.json
    python -m benchmarks.methanol.small_worlds --moves 1 --steps 240 --lr 4e-3 \
      --json benchmarks/results/one_move.json

The worlds are those of `FalseBelief`. One Llama of four blocks is trained once to tell what happens
in stories of two moves (`base_model.py`; the folder `--base`, made if it is not there). Every row
then trains all of its weights on as many questions in the same steps. Seeds change the training
questions and their order. Without `--lr` a row's rate is the one of `RATES` with the most right
answers to 200 validation questions after `SEARCH_STEPS` steps, with a seed outside the table; rows
of other k take the rate of k = 3. Test questions are the same for all; `hits` of an entry says for
each in turn whether it was answered. One thread, no data to get.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch

import zoo
from benchmarks import trials
from benchmarks.methanol.base_model import WINDOW, stories, train_base
from benchmarks.training import DEVICE, GivenRecords, quiet_trainer
from zoo.records import Triple

RAW = "MeTHanol, raw head, k = 3"
NORMED = "MeTHanol, normed head, k = 3"
SCALED = "MeTHanol, scaled head, k = 3"
TRAINED: dict[str, tuple[Any, dict[str, Any]]] = {
    "SFT(Q -> A)": (zoo.SFT, {}),
    "SFT(Q -> T, A)": (zoo.SFT, {"learn_thought": True}),
    RAW: (zoo.MeTHanol, {"thinking_layer": 3}),
    NORMED: (zoo.MeTHanol, {"thinking_layer": 3, "thinking_norm": True}),
    SCALED: (zoo.MeTHanol, {"thinking_layer": 3, "match_scale": True}),
    "MeTHanol, raw head, k = 2": (zoo.MeTHanol, {"thinking_layer": 2}),
    "MeTHanol, raw head, k = 1": (zoo.MeTHanol, {"thinking_layer": 1}),
}
RULE = "rule: present place"
ROWS = (RULE, *TRAINED)
SEARCHED = tuple(TRAINED)[:5]
RATES = (4e-3, 2e-3)
SEARCH_SEED, SEARCH_STEPS = 100, 150
BATCH = 16
BELIEFS = ("false_belief", "true_belief", "second_order")
KINDS = (*BELIEFS, "memory", "reality")
PLACE = re.compile(r"(?:was in|moved the \w+ to) the (\w+)\.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the tables."""
    parser = trials.make_parser(__doc__, rows=ROWS, seeds=range(8))
    parser.add_argument("--base", type=Path, default=Path("runs/two_moves_base"))
    parser.add_argument("--steps", type=int, default=400, help=f"of {BATCH} questions")
    parser.add_argument("--moves", type=int, choices=(1, 2), default=2)
    parser.add_argument("--lr", type=float, help="of every row, without a search")
    parser.add_argument("--questions", type=int, default=500, help="of the test, as many a kind")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "part", "row", "lr", "seed")
    if not options.table:
        torch.set_num_threads(1)
        if not (options.base / "model.safetensors").is_file():
            train_base(options.base)
        run = partial(run_row, options=options)
        if options.lr is None:
            finished.run(search_jobs(options.rows), run)
        finished.run(test_jobs(options, finished.entries), run)
    print("\n".join(table(finished.entries)))


def search_jobs(rows: Sequence[str]) -> list[trials.Job]:
    """Return the runs on validation questions that choose the rates of these rows."""
    wanted = {searched(row) for row in rows if row in TRAINED}
    return [
        ("search", row, rate, SEARCH_SEED) for row in SEARCHED if row in wanted for rate in RATES
    ]


def searched(row: str) -> str:
    """Return the row whose rate a row takes: its own, or that of k = 3."""
    return row if row in SEARCHED else RAW


def test_jobs(options: argparse.Namespace, entries: Sequence[trials.Entry]) -> list[trials.Job]:
    """Return part, row, rate and seed of the table, every row of a seed before the next seed."""
    rates = {RULE: 0.0}
    for row in set(options.rows) - {RULE}:
        rates[row] = options.lr or best_rate(entries, searched(row))
    return [("test", row, rates[row], seed) for seed in options.seeds for row in options.rows]


def best_rate(entries: Sequence[trials.Entry], row: str) -> float:
    """Return the rate with the most right validation answers; of equal ones the lowest."""
    tried = trials.of_row(entries, part="search", row=row)
    return float(max(tried, key=lambda e: (e["metrics"]["accuracy"], -e["lr"]))["lr"])


def run_row(part: str, row: str, lr: float, seed: int, options: argparse.Namespace) -> trials.Entry:
    """Train and test one row; return its entry."""
    search, moves = part == "search", options.moves
    steps = min(SEARCH_STEPS, options.steps) if search else options.steps
    name, count = ("validation", 200) if search else ("test", options.questions)
    asked = stories(name, count, moves)
    start = time.process_time()
    entry: trials.Entry = {"part": part, "row": row, "lr": lr, "seed": seed, "moves": moves}
    if row == RULE:
        entry |= {"steps": 0, **scores(asked, [present_place(each) for each in asked])}
    else:
        questions = stories(f"train {seed}", steps * BATCH, moves)
        module = trained(row, lr, seed, steps, questions, options.base)
        replies = answered(module, asked)
        entry |= {"steps": steps, **scores(asked, [r.answer for r in replies])}
        if module.hparams.get("learn_thought", True):
            right = [r.thought == each.thought for r, each in zip(replies, asked, strict=True)]
            entry["metrics"]["thoughts"] = round(statistics.mean(right), 4)
        first = scores(questions[:100], [r.answer for r in answered(module, questions[:100])])
        entry["metrics"]["train_accuracy"] = first["metrics"]["accuracy"]
    return {**entry, "seconds": round(time.process_time() - start)}


def trained(
    row: str, lr: float, seed: int, steps: int, questions: Sequence[Triple], base: Path
) -> Any:
    """Return the module of a row after its steps from the base model."""
    lightning.seed_everything(seed, verbose=False)
    method, settings = TRAINED[row]
    module = method(
        backbone={"name": str(base)},
        optimizer={"lr": lr, "schedule": "linear", "warmup_ratio": 0.1, "beta2": 0.99},
        max_length=WINDOW,
        max_thought_tokens=48,
        max_answer_tokens=6,
        **settings,
    )
    data = GivenRecords(questions, batch_size=BATCH, seed=seed)
    quiet_trainer(max_steps=steps, max_epochs=-1).fit(module, data)
    return module.to(DEVICE).eval()


def answered(module: Any, asked: Sequence[Triple]) -> list[Any]:
    """Return a reply to each question, a hundred at a time."""
    return [r for i in range(0, len(asked), 100) for r in module.generate(asked[i : i + 100])]


def present_place(question: Triple) -> str:
    """Return the rule's answer: where the object is, or was first if that is the question."""
    places = PLACE.findall(question.query)
    return f"the {places[0 if question.kind == 'memory' else -1]}"


def scores(asked: Sequence[Triple], answers: Sequence[str]) -> dict[str, Any]:
    """Return hits of each question in turn, in all, of beliefs and by kind, and their means."""
    right = [int(each.answer == text) for each, text in zip(asked, answers, strict=True)]
    grouped = {
        name: [hit for hit, each in zip(right, asked, strict=True) if each.kind in kinds]
        for name, kinds in {
            "all": KINDS,
            "belief": BELIEFS,
            **{kind: (kind,) for kind in KINDS},
        }.items()
    }
    hits = {name: each for name, each in grouped.items() if each}
    metrics = {name: round(statistics.mean(each), 4) for name, each in hits.items()}
    return {"metrics": {"accuracy": metrics.pop("all"), **metrics}, "hits": hits}


def table(entries: Sequence[trials.Entry]) -> list[str]:
    """Return Markdown tables: percent right by kind over seeds, and what the search found."""
    names = ("train_accuracy", "thoughts", "accuracy", "belief", *KINDS)
    tested, tried = (trials.of_row(entries, part=part) for part in ("test", "search"))
    rows = [
        [row, f"{mine[0]['lr']:g}", str(len(mine)), *(score_cell(mine, name) for name in names)]
        for row, mine in trials.by_row(tested, ROWS)
    ]
    found = [
        [row, *(score_cell(trials.of_row(mine, lr=rate), "accuracy") for rate in RATES)]
        for row, mine in trials.by_row(tried, ROWS)
    ]
    lines = trials.markdown(["row", "lr", "seeds", *names], rows)
    if found:
        titles = ["validation, lr", *(f"{rate:g}" for rate in RATES)]
        lines += ["", *trials.markdown(titles, found)]
    return lines


def score_cell(entries: Sequence[trials.Entry], name: str) -> str:
    """Return a mean over seeds in percent with half its 95 % interval; `-` without the score."""
    values = [100 * e["metrics"][name] for e in entries if name in e["metrics"]]
    if not values:
        return "-"
    margin = trials.seed_margin(values)
    return f"{statistics.mean(values):.1f}" + (f" +-{margin:.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
