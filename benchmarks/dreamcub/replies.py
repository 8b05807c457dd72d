"""Replies on real dialogues: the full method beside its supervised policy, DPO and the plain base.

    export ZOO_DATA=...       # holds esconv/ and empathetic_dialogues/
    python -m benchmarks.dreamcub.replies --json FILE --seeds 0 1 2

All rows begin with the small base of `small_base.py`, which has read ESConv's training dialogues,
and train full copies of it on ESConv with the same supervised steps, at the same constant rate:
under a decay over the whole run a row with more stages would end its supervised steps at a higher
rate. Rewards are learned from pairs of the data's reply and a sampled one. `base` is not trained.
Two decisions of each test dialogue of ESConv are answered with the likeliest reply, and one of each
of as many dialogues of EmpatheticDialogues, which nothing was trained on. Scores: BLEU-2, ROUGE-L,
distinct-2, words of a reply. Resumable: one JSON entry per row and seed, with ROUGE-L of each
decision.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch

import datamodules
import zoo
from benchmarks import trials
from benchmarks.dreamcub.beliefs import data_of
from benchmarks.dreamcub.small_base import base_in
from benchmarks.support.items import item_scores
from benchmarks.training import DEVICE, quiet_trainer
from zoo.errors import TooLongError
from zoo.support.decisions import Decision, decisions
from zoo.support.reply import AnsweredDecision, SupportReply
from zoo.support.scores import reply_scores

WINDOW: dict[str, Any] = {
    **{"max_length": 320, "reserve": 64, "max_new_tokens": 40, "max_generated": 0},
    **{"dataset": "esconv", "labels": "support", "factors": ["emotion"], "strategy_line": False},
}
LENGTHS = {"policy": 300, "world": 200, "reward": 100, "joint": 160}
UPDATES = {"world_per_cycle": 1, "minibatches": 2, "epochs": 1}
RATES = {"policy": 3e-4, "world": 1e-3}
ROWS: dict[str, dict[str, Any] | None] = {
    "base": None,
    "SFT": {"world": 0, "reward": 0, "joint": 0, "belief_in": []},
    "SFT + belief line": {"reward": 0, "joint": 0},
    "DPO": {"world": 0, "reward": 0, "belief_in": [], "behaviour": "dpo"},
    "full": {},
}
SETS = {"esconv": ("ESConv", 2), "empathetic_dialogues": ("EmpatheticDialogues", 1)}
SHOWN = ("bleu_2", "rouge_l", "distinct_2", "words")
AT_ONCE = 16  # decisions


def method_of(base: str, row: str, times: float) -> tuple[zoo.DreamCUB, int]:
    """Return the method of a row and its optimiser steps, so many times those of `LENGTHS`."""
    given = dict(ROWS[row] or {})
    lengths = {name: round(times * given.pop(name, length)) for name, length in LENGTHS.items()}
    stages = {name: lengths[name] for name in ("policy", "world", "reward")}
    updates = UPDATES | ({"world_per_cycle": 0} if given.get("behaviour") == "dpo" else {})
    module = zoo.DreamCUB(
        zoo.Backbone(base),
        zoo.Optimizer(
            lr=RATES["policy"], schedule="constant", warmup_ratio=0.0, weight_decay=0.0, beta2=0.95
        ),
        world_lr=RATES["world"],
        critic_lr=RATES["world"],
        schedule={**stages, **updates},
        full_copies=True,
        **WINDOW,
        **given,
    )
    return module, sum(lengths.values())


def asked(module: Any, name: str, count: int | None) -> list[Decision]:
    """Return the decisions of a test set that every row answers.

    Args:
        module: Its encoder says what fits.
        name: Of the set.
        count: Dialogues, drawn with a fixed seed; None for as many as ESConv's test split has.
    """
    kind, of_each = SETS[name]
    records = getattr(datamodules, kind)(trials.data_path(name)).records("test")
    draw, encoder = random.Random(0), module.encoder()
    found: list[Decision] = []
    for record in draw.sample(records, min(count or 195, len(records))):
        points = decisions(record, module.labels, need_strategies=False)
        fitting = [point for point in points if fits(encoder, point)]
        found += draw.sample(fitting, min(of_each, len(fitting)))
    return found


def fits(encoder: Any, decision: Decision) -> bool:
    """Return whether every component can read a decision."""
    try:
        encoder.posterior(encoder.state(decision))
    except TooLongError:
        return False
    return True


def answers(module: Any, points: Sequence[Decision]) -> list[SupportReply]:
    """Return the likeliest reply to each decision, in their order; those of a length together."""
    order = sorted(range(len(points)), key=lambda i: sum(len(t.text) for t in points[i].turns))
    found: dict[int, SupportReply] = {}
    for first in range(0, len(order), AT_ONCE):
        some = order[first : first + AT_ONCE]
        replies = module.respond([points[i] for i in some])
        found.update(zip(some, replies, strict=True))
    return [found[i] for i in range(len(points))]


def tested(module: Any, name: str, count: int | None) -> dict[str, Any]:
    """Return the scores of a test set, and ROUGE-L of each decision."""
    points = asked(module, name, count)
    replies = answers(module, points)
    answered = [AnsweredDecision(*pair, "") for pair in zip(points, replies, strict=True)]
    scores = reply_scores(answered, labels=module.labels)
    written = {p.id: [r.strategy, r.reply] for p, r in zip(points, replies, strict=True)}
    words = sum(len(reply.reply.split()) for reply in replies) / len(replies)
    kept = {key: round(value, 3) for key, value in scores.items() if key in SHOWN}
    examples = [[p.turns[-1].text, r.reply] for p, r in zip(points[:5], replies[:5], strict=True)]
    return {
        "metrics": kept | {"words": round(words, 2)},
        "items": item_scores(written, points)["rouge_l"],
        "examples": examples,
    }


def run(row: str, seed: int, steps: float, count: int | None, folder: Path) -> trials.Entry:
    """Train a row, its stages `steps` times as long as `LENGTHS`, and answer both test sets."""
    start, data = time.time(), data_of("esconv", seed)
    base = base_in(
        folder, "esconv", lambda name: method_of(name, row, 1.0)[0], data.records("train")
    )
    module, length = method_of(base, row, steps)
    lightning.seed_everything(seed, verbose=False)
    if ROWS[row] is not None:
        quiet_trainer(max_steps=length).fit(module, data)
    module.configure_model()
    module.to(DEVICE).eval()
    trained = time.time()
    found = {name: tested(module, name, count) for name in SETS}
    return {
        **{"row": row, "seed": seed, "steps": steps, "count": count},
        **{key: {name: found[name][key] for name in SETS} for key in ("metrics", "items")},
        "examples": {name: found[name]["examples"] for name in SETS},
        "optimiser_steps": length if ROWS[row] is not None else 0,
        "seconds": {"train": round(trained - start), "test": round(time.time() - trained)},
    }


def table(entries: Sequence[trials.Entry]) -> list[str]:
    """Return a row for each method and test set, means over seeds."""
    rows = [
        [name, row, str(len(mine)), *(f"{mean(mine, name, score):.2f}" for score in SHOWN)]
        for name in SETS
        for row, mine in trials.by_row(entries, ROWS)
    ]
    return trials.markdown(["data", "row", "seeds", *SHOWN], rows)


def mean(entries: Sequence[trials.Entry], name: str, score: str) -> float:
    """Return the mean of a score of a test set over seeds."""
    return sum(entry["metrics"][name][score] for entry in entries) / len(entries)


def main() -> None:
    """Run the missing rows and print the table."""
    parser = trials.make_parser(__doc__, rows=ROWS)
    parser.add_argument("--steps", type=float, default=1.0, help="times as many in every stage")
    parser.add_argument("--dialogues", type=int, default=None, help="of each test set")
    parser.add_argument("--folder", type=Path, default=Path("runs/beliefs"), help="keeps the base")
    given = parser.parse_args()
    torch.set_num_threads(1)
    finished = trials.FinishedRows(given.json, "row", "seed", "steps", "count")
    setting = {"steps": given.steps, "count": given.dialogues}
    jobs = [
        (row, seed, *setting.values())
        for seed in given.seeds
        for row in given.rows
        if ROWS[row] is not None or seed == given.seeds[0]  # what is not trained has no seed
    ]
    if not given.table:
        finished.run(jobs, partial(run, folder=given.folder))
    print("\n".join(table(trials.of_row(finished.entries, **setting))))


if __name__ == "__main__":
    main()
