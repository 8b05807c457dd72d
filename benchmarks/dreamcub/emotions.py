"""Are DailyDialog's emotions not learned because they are rare, or because of a fault?

    export ZOO_DATA=...       # holds dailydialog/
    python -m benchmarks.dreamcub.emotions --json FILE --parts memorised --seeds 0
    python -m benchmarks.dreamcub.emotions --json FILE --parts even --seeds 0 1

Of `beliefs.py` it has the base, the rows, the rate and the states of 8 a step; only which states
are drawn differs. `memorised`: ten states of each emotion that has so many are learned and asked
again; all of them must come to be right. `even`: every state of a step first draws one of those
emotions, each as likely as the others, then one of its training states; asked are as many test
states of each emotion, so a rule that always says the same has one part in so many. Sentiment and
intention are learned along and come as they come. Resumable: one JSON entry per part, row and seed.
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

from benchmarks import trials
from benchmarks.dreamcub.beliefs import COPY_RATE, ROWS, data_of, inferred, method_of, scores
from benchmarks.dreamcub.small_base import base_in
from benchmarks.training import DEVICE
from zoo.adapters import adapter_of
from zoo.errors import TooLongError
from zoo.losses.cross_entropy import total_loss
from zoo.methods.dreamcub.encoder import MOMENTS, State
from zoo.methods.dreamcub.roles import WORLD
from zoo.support.decisions import decisions

SET = "daily_dialog"
STEPS = {"memorised": 100, "even": 160}
BATCH, WARM_UP = 8, 20
ENOUGH = 20  # training states that an emotion must have
MEMORISED, ASKED = 10, 60  # states of each emotion
TRAINED = [row for row, weights in ROWS.items() if weights is not None]
ByEmotion = dict[str, list[State]]


def by_emotion(module: Any, records: Sequence[Any]) -> ByEmotion:
    """Return the states that fit the window and have all labels, by emotion, in random order."""
    encoder, found = module.encoder(), dict[str, list[State]]()
    for record in records:
        for state in map(encoder.state, decisions(record, module.labels, need_strategies=False)):
            if not state.belief or not all(state.belief):
                continue
            try:
                encoder._check_fits(state)
            except TooLongError:
                continue
            found.setdefault(state.belief[0], []).append(state)
    draw = random.Random(0)
    return {name: draw.sample(states, len(states)) for name, states in found.items()}


def learn(module: Any, states: ByEmotion, steps: int, seed: int) -> None:
    """Train the world model's copy on states whose emotions are equally likely."""
    draw, names = random.Random(seed), sorted(states)
    trained = [p for n, p in module.named_parameters() if adapter_of(n) == WORLD]
    optimizer = torch.optim.AdamW(trained, lr=COPY_RATE, weight_decay=0.0)
    module.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = COPY_RATE * min(1.0, (step + 1) / WARM_UP)
        some = [draw.choice(states[draw.choice(names)]) for _ in range(BATCH)]
        seeds = [f"{state.decision.id}-{step}" for state in some]
        with torch.autocast(DEVICE, torch.bfloat16):
            terms = module.world.losses(some, {MOMENTS: float(BATCH)}, names=seeds)
            loss = total_loss(terms, module.loss_weights)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    module.eval()


def run(part: str, row: str, seed: int, folder: Path) -> trials.Entry:
    """Train a row and ask it."""
    start, data = time.time(), data_of(SET, 0)
    base = base_in(folder, SET, partial(method_of, SET, row), data.records("train"))
    lightning.seed_everything(seed, verbose=False)
    module = method_of(SET, row, base, copies=True)
    module.configure_model()
    module.to(DEVICE)
    known = by_emotion(module, data.records("train"))
    known = {name: states for name, states in known.items() if len(states) >= ENOUGH}
    asked = by_emotion(module, data.records("test")) if part == "even" else {}
    tested = [state for name in known for state in asked.get(name, [])[:ASKED]]
    if part == "memorised":
        known = {name: states[:MEMORISED] for name, states in known.items()}
        tested = [state for states in known.values() for state in states]
    learn(module, known, STEPS[part], seed)
    found = inferred(module, tested)
    gold = [state.belief[0] for state in tested if state.belief]
    hits = [int(a == b[0]) for a, b in zip(gold, found, strict=True)]
    shares = {
        name: sum(h for h, g in zip(hits, gold, strict=True) if g == name) / gold.count(name)
        for name in known
    }
    return {
        **{"part": part, "row": row, "seed": seed, "metrics": scores(module, tested, found)},
        **{"items": {"emotion": hits}, "found": shares, "steps": STEPS[part]},
        "learned": {name: len(states) for name, states in known.items()},
        **{"asked": len(tested), "seconds": round(time.time() - start)},
    }


def table(entries: Sequence[trials.Entry]) -> list[str]:
    """Return a row for each part and method: the share found of each factor, and of emotions."""
    rows = []
    for part in STEPS:
        for row, some in trials.by_row(trials.of_row(entries, part=part), TRAINED):
            names = ["emotion", "sentiment", "intention"]
            means = [trials.mean_metric(some, f"{name}_belief_balanced") for name in names]
            one = [
                f"{n} {sum(e['found'][n] for e in some) / len(some):.2f}" for n in some[0]["found"]
            ]
            cells = [*trials.percent(*means), ", ".join(one)]
            rows.append([part, row, str(len(some)), str(some[0]["asked"]), *cells])
    titles = ["states", "row", "seeds", "asked", "emotion", "sentiment", "intention", "found of"]
    return trials.markdown(titles, rows)


def main() -> None:
    """Run the missing rows and print the table."""
    parser = trials.make_parser(__doc__, rows=TRAINED)
    parser.add_argument("--parts", nargs="+", choices=STEPS, default=list(STEPS), metavar="PART")
    parser.add_argument("--folder", type=Path, default=Path("runs/beliefs"), help="of small bases")
    given = parser.parse_args()
    torch.set_num_threads(1)
    finished = trials.FinishedRows(given.json, "part", "row", "seed")
    jobs = [(p, row, seed) for p in given.parts for seed in given.seeds for row in given.rows]
    if not given.table:
        finished.run(jobs, partial(run, folder=given.folder))
    print("\n".join(table(finished.entries)))


if __name__ == "__main__":
    main()
