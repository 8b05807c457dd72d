"""SoVA, its baselines and controls on DailyDilemmas: choices by row and block of dilemmas.

    python -m zoo graph build index/ --values values.csv --principles principle_*.csv --encoder E
    python -m benchmarks.sova --model M --encoder E --index index/ --json FILE
    python -m benchmarks.sova --json FILE --table

The dilemmas come in one seeded random order, a block at a time, every row of it: what is done when
the run ends is a random subset, the same for all rows, and the next run goes on from there. Reports
are scored once for each theory and block; `shuffled` gives a dilemma the instructions of another
one of its block, `wrong theory` those of `zoo.methods.sova.kinds.WRONG` under its own role, `told`
the expected action. Text is read in the first dilemmas only, log-odds in all of them.

Needs `ZOO_DATA`; one thread. `dilemma_table` makes the tables.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

import datamodules
import zoo
from benchmarks import trials
from benchmarks.sova.dilemma_table import tables
from zoo.backbone import Backbone
from zoo.methods.sova.expected import Rule, expected_action
from zoo.methods.sova.instruct import Instruction
from zoo.methods.sova.kinds import WRONG, Kind, Theory
from zoo.methods.sova.module import SoVA
from zoo.records import Dilemma

BLOCK, SEED = 16, 0
RAG_TOKENS = 192  # of principles: about what three instructions take
Kept = list[list[Instruction]]


@dataclass(frozen=True)
class Row:
    """An agent: its kind, whose role it has, and the rule that `told` knows."""

    kind: Kind
    theory: Theory = "maslow"
    rule: Rule = "maslow_growth"


ROWS = {
    "direct": Row("direct"),
    "SoVA, Maslow": Row("sova"),
    "SoVA, Plutchik": Row("sova", "emotion"),
    "SoVA, virtues": Row("sova", "virtue"),
    "wrong theory, Maslow": Row("wrong_theory"),
    "shuffled, Maslow": Row("shuffled"),
    "plain RAG": Row("rag"),
    "told, growth": Row("told"),
    "told, valence": Row("told", "emotion", "plutchik_valence"),
    "ECoT": Row("ecot"),
    "plan-and-solve": Row("plan_and_solve"),
    "metacognitive": Row("metacognitive"),
}
REASONING = ("ECoT", "plan-and-solve", "metacognitive")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the tables."""
    options = parse(arguments)
    finished = trials.FinishedRows(options.json, "model", "prefilter", "row", "block")
    dilemmas = in_order()
    if not options.table:
        agent = load_agent(options)
        for job in finished.missing(jobs(options, len(dilemmas))):
            finished.add(run_block(agent, dilemmas, job, options))
    print("\n".join(tables(finished.entries, dilemmas, list(ROWS))))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = trials.make_parser(__doc__, rows=ROWS)
    parser.set_defaults(rows=[row for row in ROWS if row not in REASONING])
    parser.add_argument("--model", default="smollm2-135m", help="agent, which scores reports too")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--index", help="folder that `python -m zoo graph build` wrote")
    parser.add_argument("--encoder", help="encoder that the index was built with")
    parser.add_argument("--prefilter", type=int, default=3, help="reports to score for a dilemma")
    parser.add_argument("--dilemmas", type=int, help="stop after so many; all by default")
    parser.add_argument("--text", type=int, default=2, help="blocks in which text is read too")
    parser.add_argument("--reasoning", type=int, default=96, help="tokens of a reasoning baseline")
    options = parser.parse_args(arguments)
    if not options.table and not (options.index and options.encoder):
        parser.error("--index and --encoder are needed to run")
    return options


def in_order() -> list[Dilemma]:
    """Return all dilemmas in their seeded order."""
    read = datamodules.DailyDilemmas(trials.data_path("daily_dilemmas")).records("test")
    found = [record for record in read if isinstance(record, Dilemma)]
    random.Random(SEED).shuffle(found)
    return found


def jobs(options: argparse.Namespace, total: int) -> list[trials.Job]:
    """Return model, prefilter, row and block, all rows of a block before the next one."""
    name = model_name(options.model)
    blocks = -(-min(total, options.dilemmas or total) // BLOCK)
    return [(name, options.prefilter, row, b) for b in range(blocks) for row in options.rows]


def model_name(name: str) -> str:
    """Return the last part of a folder or a hub id."""
    return name.rstrip("/").rpartition("/")[2]


def load_agent(options: argparse.Namespace) -> SoVA:
    """Return the one agent that is all rows in turn."""
    torch.set_num_threads(1)
    agent = zoo.SoVA(
        Backbone(options.model, dtype=options.dtype),
        index=options.index,
        encoder=options.encoder,
        prefilter=options.prefilter,
        chunk_tokens=RAG_TOKENS,
        max_reasoning_tokens=options.reasoning,
    )
    agent.configure_model()
    return agent.eval()


def run_block(
    agent: SoVA, dilemmas: Sequence[Dilemma], job: trials.Job, options: argparse.Namespace
) -> trials.Entry:
    """Decide a block of dilemmas as one row; return its entry, a list item for each dilemma."""
    model, prefilter, name, block = job
    row, records = ROWS[name], dilemmas[block * BLOCK : (block + 1) * BLOCK]
    agent.kind, agent.theory, agent.rule = row.kind, row.theory, row.rule
    agent.read_text = block < options.text and row.kind not in ("ecot", "told")
    start = time.time()
    if row.kind == "told":  # nothing is told where nothing is expected: that is `direct`
        records = [record for record in records if expected_action(record, row.rule)]
    kept = instructions(agent, row, tuple(records)) if row.kind in STEERED else None
    answers = agent.generate(records, kept) if records else []
    entry: dict[str, Any] = {
        "model": model,
        "prefilter": prefilter,
        "row": name,
        "block": block,
        "ids": [record.id for record in records],
        "odds": [[round(z, 4) for z in answer.odds] for answer in answers],
        "scores": [[round(i.score, 1) for i in answer.instructions] for answer in answers],
        "seconds": round(time.time() - start, 1),
    }
    if agent.read_text:
        entry["choices"] = [
            [answer.choice("text_"), answer.choice("text_swapped_")] for answer in answers
        ]
    return entry


def instructions(agent: SoVA, row: Row, records: tuple[Dilemma, ...]) -> Kept:
    """Return the kept instructions of a block for one of the rows that retrieve some."""
    theory = WRONG[row.theory] if row.kind == "wrong_theory" else row.theory
    kept = retrieve(agent, tuple(record.situation for record in records), theory)
    half = len(kept) // 2
    return [*kept[half:], *kept[:half]] if row.kind == "shuffled" else kept


@cache
def retrieve(agent: SoVA, situations: tuple[str, ...], theory: Theory) -> Kept:
    """Return the kept instructions of a theory for a block, scored once."""
    return agent.retrieval.instructions(situations, theory)


STEERED = ("sova", "wrong_theory", "shuffled")


if __name__ == "__main__":
    main()
