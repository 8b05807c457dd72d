"""Emotional support: planners, machines, chains of concepts and baselines on the same decisions.

    python -m benchmarks.support --json benchmarks/results/support.json --talker MODEL
    python -m benchmarks.support --json FILE --rows "SFT" "straQ*, imit" --sets esconv --seeds 0 1
    python -m benchmarks.support --json FILE --table

What is asked: `--decisions` random decisions of each of `--dialogues` random test dialogues of
ESConv (in domain) and EmpatheticDialogues (out of domain: nothing is trained on it; every row keeps
ESConv's strategies and emotions), the same for every row and seed. Rows without training run on
`--talker`, an instruction-tuned model. The others train `--backbone` for `--steps` steps of
`--per_step` decisions, once through the same decisions of random training dialogues. Rows with the
same weights share one training run.

straQ*'s rows differ in their planner; one fine-tuned responder (exported to `--folder`) writes what
they planned, and what the gold strategies and the most frequent one ask for. Grades of `distill`
are those of the talker, kept in a file in `--folder`.

Plain replies are begun with the supporter's name, the baselines' answers in fields with the first
field, CoCT's tagged replies with nothing. Not all rows know the same of past turns: baselines and
straQ*'s planner read their annotated strategies, FiSMiness those and the emotion in the rows
`annotated history` (else its own), CoCT in the row `past strategies as tags`; straQ* reads the
annotated emotion besides.

Rows that the JSON already holds are skipped: a killed run goes on where it was. Needs `ZOO_DATA`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

import zoo
from benchmarks.support.data import most_frequent, tested
from benchmarks.support.models import build, first, learned
from benchmarks.support.table import ROWS, SETS, Row, table
from zoo.decoding.shared_context import SharedContext
from zoo.methods.straq.evaluation import StrategyPlan
from zoo.support.conversation import conversation_context
from zoo.support.decisions import Decision
from zoo.support.evaluation import TalkingModule
from zoo.support.reply import SupportReply

BINS = ("early", "late")  # of turn depth, too small here
Contexts = dict[tuple[str, ...], SharedContext]  # ids of decisions -> their conversations
SIZES = ("dialogues", "decisions", "steps", "per_step", "lr", "window", "new_tokens")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rows that are missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--dialogues", type=int, default=20, help="test dialogues of each set")
    parser.add_argument("--decisions", type=int, default=1, help="of each test dialogue")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--per_step", type=int, default=8, help="training decisions of a step")
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--window", type=int, default=2048, help="tokens; oldest turns give way")
    parser.add_argument("--new_tokens", type=int, default=60, help="limit of each answer")
    parser.add_argument("--batch", type=int, default=6, help="decisions that are decoded together")
    parser.add_argument("--backbone", default="smollm2-135m", help="what is trained")
    parser.add_argument("--talker", default="Qwen/Qwen2.5-Coder-0.5B-Instruct")
    parser.add_argument("--talker_dtype", default="float32")
    parser.add_argument("--precision", default="32-true", help="of training")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--folder", type=Path, default=Path("runs/support"))
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args(arguments)
    results = json.loads(options.json.read_text()) if options.json.is_file() else []
    if "ZOO_DATA" not in os.environ and not options.table:
        sys.exit("set ZOO_DATA to the folder that holds esconv/ and empathetic_dialogues/")
    for weights, seed, missing in jobs(options, results) if not options.table else []:
        start = time.time()
        with counting() as trained:
            base = learned(weights, seed, options)
        cost = {"train": trained[0], "train_seconds": round(time.time() - start)}
        contexts: Contexts = {}
        for row, name in missing:
            results.append(run_row(base, row, name, seed, options, cost, contexts))
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(f"[{','.join(map(dumped, results))}\n]\n", "utf-8")
            print(row, name, seed, results[-1]["cost"], flush=True)
    print("\n".join(table(results)))


def dumped(entry: dict[str, Any]) -> str:
    """Return an entry as a line."""
    return "\n" + json.dumps(entry, ensure_ascii=False)


def jobs(
    options: argparse.Namespace, results: list[dict[str, Any]]
) -> list[tuple[str, int, list[tuple[str, str]]]]:
    """Return weights, seed, and the (row, set) pairs that need them and are missing.

    What a run that is cut off leaves should tell the most: sets in their order, of each the rows in
    theirs; a row that learns answers the later sets as well while its weights are there. What is
    not trained runs with one seed; gold strategies are needed where they are the plan.
    """
    settings = sizes(options)
    if any(entry["settings"] != settings for entry in results):
        sys.exit(f"{options.json}: holds rows of other sizes; name another file")
    done = {(entry["row"], entry["set"], entry["seed"]) for entry in results}
    found: dict[tuple[int, str, str], list[tuple[str, str]]] = {}
    for seed, name, row in product(options.seeds, options.sets, ROWS):
        weights = ROWS[row].weights
        again = weights == "talker" and seed != options.seeds[0]
        apart = ROWS[row].plan == "gold" and not SETS[name].strategies
        if row in options.rows and not (again or apart or (row, name, seed) in done):
            job = (seed, weights, name if weights in ("talker", "none") else "")
            found.setdefault(job, []).append((row, name))
    return [(weights, seed, missing) for (seed, weights, _), missing in found.items()]


def sizes(options: argparse.Namespace) -> dict[str, Any]:
    """Return what has to be the same for all rows of a table."""
    return {name: getattr(options, name) for name in SIZES}


def run_row(
    base: Any,
    row: str,
    name: str,
    seed: int,
    options: argparse.Namespace,
    cost: dict[str, int],
    contexts: Contexts,
) -> dict[str, Any]:
    """Answer all decisions of a set; return the row's entry.

    Baselines of the same weights read a conversation once, kept in `contexts`. The positions are
    counted for each of them, so only its seconds are fewer than they would be alone.
    """
    asked, start = tested(name, options), time.time()
    made = ROWS[row]
    alone = base is None or made != first(made.weights)
    module = build(made, seed, options, base) if alone else base
    module.to(options.device)
    with counting() as positions:
        found, shared = answered(module, made, asked, options, contexts)
    scorer = module if isinstance(module, TalkingModule) else zoo.ESCBaseline()
    pairs = list(zip(asked, found, strict=True))
    seconds = round(time.time() - start)
    scores = scorer.score_answers(pairs, "test")
    talks = made.weights == "talker"
    return {
        "row": row,
        "set": name,
        "seed": seed,
        "settings": sizes(options),
        "model": options.talker if talks else options.backbone,
        "dtype": options.talker_dtype if talks else options.precision,
        "answered": len(asked),
        "scores": {k: round(v, 3) for k, v in scores.items() if k.split("/")[0] not in BINS},
        "cost": {**cost, "test": positions[0] + shared, "test_seconds": seconds},
        "replies": {d.id: [one.strategy, one.reply, one.words] for d, one in pairs},
        "torch": torch.__version__,
        "date": str(date.today()),
    }


def answered(
    module: Any,
    row: Row,
    asked: Sequence[Decision],
    options: argparse.Namespace,
    contexts: Contexts,
) -> tuple[list[SupportReply], int]:
    """Return what is said at each decision, and the positions that an earlier row has read."""
    found: list[SupportReply] = []
    shared = 0
    usual = most_frequent(options) if row.plan == "frequent" else ""
    for start in range(0, len(asked), options.batch):
        part = asked[start : start + options.batch]
        if row.method == "ESCBaseline":
            known = (str(module.show_strategies), *(decision.id for decision in part))
            context = contexts.setdefault(known, conversation_context(module, part))
            shared += context.positions
            found += module.respond(part, context=context)
            continue
        if row.method != "StraQ":
            found += module.respond(part)
            continue
        plans = module.plan(part) if row.plan == "own" else []
        plans = plans or [StrategyPlan(usual or decision.target.strategy, ()) for decision in part]
        replies = module.reply(part, plans)
        pairs = zip(replies, plans, strict=True)
        for reply, plan in pairs:
            found.append(SupportReply(reply, plan.strategy, failed=() if reply else ("reply",)))
    return found, shared


@contextmanager
def counting() -> Iterator[list[int]]:
    """Count the positions that language models read and write inside, padding included."""
    seen = [0]

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, nn.Embedding):
            seen[0] += inputs[0].numel()

    handle = nn.modules.module.register_module_forward_hook(count)
    try:
        yield seen
    finally:
        handle.remove()


if __name__ == "__main__":
    main()
