"""How well a user's belief is inferred on real data: the world model beside three other rows.

    export ZOO_DATA=...       # holds dailydialog/ and esconv/
    python -m benchmarks.dreamcub.beliefs --json FILE --seeds 0 1 2
    python -m benchmarks.dreamcub.beliefs --json FILE --model small --steps 500 --seeds 0 1 2

All rows read the same prompts with the same small language model. `majority` always says the most
frequent label of one state of each training dialogue; `zero-shot` is the model as it is; `SFT
classifier` learns the labels alone; `world model` learns the whole bound: belief, utterances, KL.
The last two have the same steps and records. One state of each test dialogue is asked, drawn with a
seed of its own, so items are dialogues. DailyDialog: emotion, sentiment derived from it, act as
intention; the copy that is used here has no text of its training split, so 90 percent of valid are
learned from. ESConv: the emotion of the whole talk alone, since every sentiment is negative and
there is no intention. `--model small` is that of `small_base.py`, of which the rows train full
copies: numbers for one million weights, in minutes. Resumable: one JSON entry per data set, row
and seed.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch

import datamodules
import zoo
from benchmarks import trials
from benchmarks.dreamcub.small_base import base_in
from benchmarks.training import DEVICE, quiet_trainer
from zoo.errors import TooLongError
from zoo.methods.dreamcub.belief import Belief
from zoo.methods.dreamcub.encoder import State
from zoo.methods.dreamcub.metrics import BeliefScores
from zoo.support.decisions import decisions

ROWS: dict[str, dict[str, float] | None] = {  # weights of the losses; None is not trained
    "majority": None,
    "zero-shot": None,
    "SFT classifier": {"observation": 0.0, "kl": 0.0},
    "world model": {},
}
DATA: dict[str, dict[str, Any]] = {
    "daily_dialog": {"labels": "acts", "factors": ["emotion", "sentiment", "intention"]},
    "esconv": {"labels": "support", "factors": ["emotion"]},
}
LOADER: dict[str, Any] = {"batch_size": 8, "too_long": "drop"}
WINDOW = {"max_length": 320, "reserve": 64, "max_new_tokens": 32, "max_generated": 0}
RATE, COPY_RATE = 5e-4, 1e-3
SMALL = "small"
AT_ONCE = 8  # states
SEEN = 100  # training states that are asked again after training


def data_of(name: str, seed: int) -> Any:
    """Return the data module of a data set; the seed orders it."""
    if name == "esconv":
        return datamodules.ESConv(trials.data_path("esconv"), seed=seed, **LOADER)
    path = trials.data_path("dailydialog")
    return datamodules.DailyDialog(path, divide_valid=True, seed=seed, **LOADER)


def method_of(dataset: str, row: str, model: str, *, copies: bool = False) -> zoo.DreamCUB:
    """Return the method of a row, which learns S2 alone, in adapters or in full copies."""
    rate = COPY_RATE if copies else RATE
    return zoo.DreamCUB(
        zoo.Backbone(model, lora=None if copies else zoo.LoRA(rank=16, alpha=32.0)),
        zoo.Optimizer(lr=rate, weight_decay=0.0),
        world_lr=rate,
        full_copies=copies,
        schedule={"policy": 0, "world": None},
        weights=ROWS[row] or {},
        dataset=dataset,
        strategy_line=False,
        **DATA[dataset],
        **WINDOW,
    )


def states_of(module: Any, records: Sequence[Any], count: int | None) -> list[State]:
    """Return a state with all labels of each dialogue that has one which fits the window.

    Args:
        module: Its encoder says what fits.
        records: Dialogues.
        count: How many at most, of dialogues in random order; None for all.
    """
    draw, encoder = random.Random(0), module.encoder()
    found: list[State] = []
    for record in draw.sample(list(records), len(records)):
        talk = decisions(record, module.labels, need_strategies=False)
        known = [s for s in map(encoder.state, talk) if s.belief and all(s.belief)]
        for state in draw.sample(known, len(known)):
            try:
                encoder.posterior(state)
            except TooLongError:
                continue
            found.append(state)
            break
        if len(found) == count:
            break
    return found


def inferred(module: Any, states: Sequence[State]) -> list[Belief]:
    """Return the likeliest belief of each state."""
    found: list[Belief] = []
    for first in range(0, len(states), AT_ONCE):
        some = list(states[first : first + AT_ONCE])
        with torch.autocast(DEVICE, torch.bfloat16):
            answers = module.quietly(partial(module.world.infer, some))
        found += [state.belief or () for state in answers]
    return found


def most_frequent(states: Sequence[State]) -> Belief:
    """Return the most frequent label of each factor."""
    columns = zip(*(state.belief or () for state in states), strict=True)
    return tuple(Counter(column).most_common(1)[0][0] for column in columns)


def scores(module: Any, states: Sequence[State], found: Sequence[Belief]) -> dict[str, float]:
    """Return accuracy and weighted F1 of each factor."""
    metric = BeliefScores(module.factors)
    metric.update([s.belief or () for s in states], found, [s.decision.id for s in states])
    return metric.compute()


def run(
    dataset: str, row: str, seed: int, model: str, steps: int, asked: int | None, folder: Path
) -> trials.Entry:
    """Train a row, where it is trained, and test it on so many dialogues; None for all."""
    small = model == SMALL
    start, data, base = time.time(), data_of(dataset, seed), model
    if small:
        method = partial(method_of, dataset, row)
        base = base_in(folder, dataset, method, data_of(dataset, 0).records("train"))
    module = method_of(dataset, row, base, copies=small)
    lightning.seed_everything(seed, verbose=False)
    if ROWS[row] is not None:
        quiet_trainer(max_steps=steps, precision="bf16-mixed").fit(module, data)
    module.configure_model()
    module.to(DEVICE).eval()
    states = states_of(module, data.records("test"), asked)
    seen = states_of(module, data.records("train"), None)
    if row == "majority":
        found = [most_frequent(seen)] * len(states)
        again = [most_frequent(seen)] * len(seen[:SEEN])
    else:
        found, again = inferred(module, states), inferred(module, seen[:SEEN])
    on_train = {f"train_{k}": v for k, v in scores(module, seen[:SEEN], again).items()}
    names = [factor.name for factor in module.factors]
    hits = {
        name: [int((s.belief or ())[i] == b[i]) for s, b in zip(states, found, strict=True)]
        for i, name in enumerate(names)
    }
    said = {name: [b[i] for b in found] for i, name in enumerate(names)}
    return {
        **{"dataset": dataset, "row": row, "seed": seed, "model": model, "steps": steps},
        **{"metrics": scores(module, states, found) | on_train, "items": hits, "found": said},
        **{"asked": asked, "tests": len(states), "seconds": round(time.time() - start)},
    }


def table(entries: Sequence[trials.Entry]) -> list[str]:
    """Return a row for each data set and method: accuracy / balanced / weighted F1 of a factor."""
    names, rows = ("emotion", "sentiment", "intention"), []
    for dataset in DATA:
        for row, some in trials.by_row(trials.of_row(entries, dataset=dataset), ROWS):
            cells = []
            for name in names:
                keys = [f"{name}_belief_{score}" for score in ("accuracy", "balanced", "f1")]
                shares = [trials.mean_metric(some, k) for k in keys if k in some[0]["metrics"]]
                cells.append(" / ".join(trials.percent(*shares)) or "-")
            rows.append([dataset, row, *cells, str(some[0]["tests"]), str(len(some))])
    titles = [f"{name}: accuracy / balanced / F1" for name in names]
    return trials.markdown(["data", "method", *titles, "dialogues", "seeds"], rows)


def main() -> None:
    """Run the missing rows and print the table."""
    parser = trials.make_parser(__doc__, rows=ROWS)
    parser.add_argument("--sets", nargs="+", choices=DATA, default=list(DATA), metavar="SET")
    parser.add_argument("--model", default="smollm2-135m", help="or `small`")
    parser.add_argument("--folder", type=Path, default=Path("runs/beliefs"), help="of small bases")
    parser.add_argument("--tests", type=int, default=None, help="test dialogues; all by default")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    names = ("dataset", "row", "seed", "model", "steps", "asked")
    finished = trials.FinishedRows(given.json, *names)
    setting = {"model": given.model, "steps": given.steps, "asked": given.tests}
    jobs = [
        (name, row, seed, *setting.values())
        for seed in given.seeds
        for name in given.sets
        for row in given.rows
        if ROWS[row] is not None or seed == given.seeds[0]  # what is not trained has no seed
    ]
    if not given.table:
        finished.run(jobs, partial(run, folder=given.folder))
    print("\n".join(table(trials.of_row(finished.entries, **setting))))


if __name__ == "__main__":
    main()
