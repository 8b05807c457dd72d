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
they planned, and what the gold strategies, the most frequent one and a lookup table ask for
(`lookup.py`, counted on all training dialogues). Grades of `distill` are those of the talker, kept
in a file in `--folder`.

Plain replies are begun with the supporter's name, the baselines' answers in fields with the first
field, CoCT's tagged replies with nothing. Not all rows know the same of past turns: baselines and
straQ*'s planner read their annotated strategies, FiSMiness those and the emotion in the rows
`annotated history` (else its own), CoCT in the row `past strategies as tags`; straQ* reads the
annotated emotion besides. Needs `ZOO_DATA`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from torch import nn

import zoo
from benchmarks import trials
from benchmarks.support.data import most_frequent, tested
from benchmarks.support.items import item_scores
from benchmarks.support.lookup import look_up, points
from benchmarks.support.models import build, first, learned
from benchmarks.support.table import LOOKUP, ROWS, SETS, Row, table
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
    options = parse(arguments)
    finished = trials.FinishedRows(options.json, "row", "set", "seed")
    if not options.table:
        run_missing(options, finished)
    print("\n".join(table(finished.entries)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = trials.make_parser(__doc__, rows=ROWS)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--dialogues", type=int, default=20, help="test dialogues of each set")
    parser.add_argument("--decisions", type=int, default=1, help="of each test dialogue")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--per_step", type=int, default=8, help="training decisions of a step")
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--window", type=int, default=2048, help="tokens; oldest turns give way")
    parser.add_argument("--new_tokens", type=int, default=60, help="limit of a reply")
    parser.add_argument("--batch", type=int, default=6, help="decisions that are decoded together")
    parser.add_argument("--backbone", default="smollm2-135m", help="what is trained")
    parser.add_argument("--talker", default="Qwen/Qwen2.5-Coder-0.5B-Instruct")
    parser.add_argument("--talker_dtype", default="float32")
    parser.add_argument("--precision", default="32-true", help="of training")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--folder", type=Path, default=Path("runs/support"))
    return parser.parse_args(arguments)


def run_missing(options: argparse.Namespace, finished: trials.FinishedRows) -> None:
    """Run the missing rows, those of the same weights after one training run."""
    for name in options.sets:
        trials.data_path(SETS[name].folder)
    for weights, seed, missing in jobs(options, finished):
        start = time.time()
        with counting() as trained:
            base = learned(weights, seed, options)
        cost = {"train": trained[0], "train_seconds": round(time.time() - start)}
        contexts: Contexts = {}
        for row, name in missing:
            finished.add(run_row(base, row, name, seed, options, cost, contexts))


def jobs(
    options: argparse.Namespace, finished: trials.FinishedRows
) -> list[tuple[str, int, list[tuple[str, str]]]]:
    """Return weights, seed, and the (row, set) pairs that need them and are missing.

    What a run that is cut off leaves should tell the most: sets in their order, of each the rows in
    theirs; a row that learns answers the later sets as well while its weights are there. What is
    not trained runs with one seed; gold strategies are needed where they are the plan.
    """
    settings = sizes(options)
    if any(entry["settings"] != settings for entry in finished.entries):
        sys.exit(f"{options.json}: holds rows of other sizes; name another file")
    wanted = [
        (row, name, seed)
        for seed, name, row in product(options.seeds, options.sets, ROWS)
        if row in options.rows
        and (ROWS[row].weights != "talker" or seed == options.seeds[0])
        and (ROWS[row].plan != "gold" or SETS[name].strategies)
    ]
    together: dict[tuple[int, str, str], list[tuple[str, str]]] = {}
    for row, name, seed in finished.missing(wanted):
        weights = ROWS[row].weights
        job = (seed, weights, name if weights in ("talker", "none") else "")
        together.setdefault(job, []).append((row, name))
    return [(weights, seed, missing) for (seed, weights, _), missing in together.items()]


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
) -> trials.Entry:
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
        replies, shared = answered(module, made, asked, options, contexts)
    scorer = module if isinstance(module, TalkingModule) else zoo.ESCBaseline()
    pairs = list(zip(asked, replies, strict=True))
    seconds = round(time.time() - start)
    scores = scorer.score_answers(pairs, "test")
    talks = made.weights == "talker"
    written = {d.id: [reply.strategy, reply.reply, reply.words] for d, reply in pairs}
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
        "replies": written,
        "items": item_scores(written, asked),
    }


def answered(
    module: Any,
    row: Row,
    asked: Sequence[Decision],
    options: argparse.Namespace,
    contexts: Contexts,
) -> tuple[list[SupportReply], int]:
    """Return what is said at each decision, and the positions that an earlier row has read."""
    replies: list[SupportReply] = []
    shared = 0
    given = iter(given_plans(row, asked, options))
    for start in range(0, len(asked), options.batch):
        part = asked[start : start + options.batch]
        if row.method == "ESCBaseline":
            known = (str(module.show_strategies), *(decision.id for decision in part))
            context = contexts.setdefault(known, conversation_context(module, part))
            shared += context.positions
            replies += module.respond(part, context=context)
            continue
        if row.method != "StraQ":
            replies += module.respond(part)
            continue
        own = row.plan == "own"
        plans = module.plan(part) if own else [StrategyPlan(next(given), ()) for _ in part]
        pairs = zip(module.reply(part, plans), plans, strict=True)
        for reply, plan in pairs:
            replies.append(SupportReply(reply, plan.strategy, failed=() if reply else ("reply",)))
    return replies, shared


def given_plans(row: Row, asked: Sequence[Decision], options: argparse.Namespace) -> list[str]:
    """Return the strategies of a row that plans without a model; none of one that plans itself."""
    if row.plan == "lookup":
        return look_up(LOOKUP, points("train"), asked)
    if row.plan == "frequent":
        return [most_frequent(options)] * len(asked)
    return [decision.target.strategy for decision in asked] if row.plan == "gold" else []


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
