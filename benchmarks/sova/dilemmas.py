"""SoVA, its baselines and controls on DailyDilemmas: one JSON entry per row, block after block.

    python -m benchmarks.sova --model M --encoder E --json FILE
    python -m benchmarks.sova --json FILE --table

The dilemmas come in one seeded random order, a block at a time, every row of it: what is done when
the run ends is a random subset, the same for all rows, and the next run goes on from there. Reports
are scored once for each theory and block; `shuffled` gives a dilemma the instructions of another
one of its block, `best one` the first of its own alone, `written` what the model writes for each
report (`map_by: model`; how many of the kept ones it wrote is counted), `wrong theory` those of
`zoo.methods.sova.kinds.WRONG` under its own role, `told` the expected action. Text is read in the
first dilemmas only, log-odds in all of them; of a reasoning baseline it is kept there, and
everywhere whether it was cut at its limit. A block is larger there, as many rows that are written
at once take less time each. `--decisive` leaves out the dilemmas in which a row's rule expects
nothing: most of those of `plutchik_valence`.

Needs `ZOO_DATA`; one thread. `dilemma_table` makes the tables.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import torch

import datamodules
import zoo
from benchmarks import trials
from benchmarks.sova.dilemma_table import Odds, choices, tables
from benchmarks.sova.index_times import FILES
from datamodules.daily_dilemmas_rows import read_principles, read_values
from zoo.backbone import Backbone
from zoo.errors import InputError
from zoo.methods.sova.expected import RULES, Rule, expected_action
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.index_files import FORMAT
from zoo.methods.sova.instruct import How
from zoo.methods.sova.instruction import Instruction
from zoo.methods.sova.kinds import WRONG, Kind, Theory
from zoo.methods.sova.module import SoVA
from zoo.methods.sova.sentence_encoder import SentenceEncoder
from zoo.records import Dilemma

BLOCK, REASONING_BLOCK, SEED = 16, 64, 0  # dilemmas
RAG_TOKENS = 192  # of principles: about what three instructions take
Kept = list[list[Instruction]]


@dataclass(frozen=True)
class Row:
    """An agent: its kind, whose role it has, where it has to decide, how many and whose words."""

    kind: Kind
    theory: Theory = "maslow"
    rule: Rule = "maslow_growth"
    most: int | None = None
    how: How = "likelihood"


ROWS = {
    "direct": Row("direct"),
    "SoVA, Maslow": Row("sova"),
    "SoVA, Plutchik": Row("sova", "emotion", "plutchik_valence"),
    "SoVA, virtues": Row("sova", "virtue"),
    "best one, Maslow": Row("sova", most=1),
    "written, Maslow": Row("sova", how="model"),
    "wrong theory, Maslow": Row("wrong_theory"),
    "shuffled, Maslow": Row("shuffled"),
    "plain RAG": Row("rag"),
    "told, growth": Row("told"),
    "told, valence": Row("told", "emotion", "plutchik_valence"),
    "ECoT": Row("ecot"),
    "plan-and-solve": Row("plan_and_solve"),
    "metacognitive": Row("metacognitive"),
}
STEERED = ("sova", "wrong_theory", "shuffled")
INDEXED = (*STEERED, "rag")
REASONING = ("ECoT", "plan-and-solve", "metacognitive")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the tables."""
    options = parse(arguments)
    dilemmas = in_order()
    entries = trials.FinishedRows(options.json, "row").entries
    if not options.table:
        agent = load_agent(options)
        for entry, block in missing(entries, options, len(dilemmas)):
            decide(agent, dilemmas, entry, block, options)
            trials.write_entries(options.json, [e for e in entries if e["blocks"]])
            print(entry["row"], block, flush=True)
    print("\n".join(tables(entries, dilemmas, list(ROWS))))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = trials.make_parser(__doc__, rows=ROWS)
    parser.set_defaults(rows=[row for row in ROWS if row not in REASONING])
    add_models(parser)
    parser.add_argument("--dilemmas", type=int, help="stop after so many; all by default")
    parser.add_argument("--decisive", action="store_true", help="only where a row's rule decides")
    parser.add_argument("--text", type=int, default=2, help="blocks in which text is read too")
    return parser.parse_args(arguments)


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the options of the agent and its retrieval."""
    parser.add_argument("--model", default="smollm2-135m", help="agent, which scores reports too")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--index", default="runs/sova_index", help="made with it if not there")
    parser.add_argument("--prefilter", type=int, default=3, help="reports to score for a dilemma")
    parser.add_argument("--reasoning", type=int, default=256, help="tokens of a reasoning baseline")


def in_order() -> list[Dilemma]:
    """Return all dilemmas in their seeded order."""
    read = datamodules.DailyDilemmas(trials.data_path("daily_dilemmas")).records("test")
    found = [record for record in read if isinstance(record, Dilemma)]
    random.Random(SEED).shuffle(found)
    return found


def missing(
    entries: list[trials.Entry], options: argparse.Namespace, total: int
) -> Iterator[tuple[trials.Entry, int]]:
    """Yield an entry and a block that it lacks, all rows of a block before the next one."""
    for entry in entries:
        setting = setting_of(entry["row"], options)
        known = {name: entry.get(name) for name in setting}
        if known != setting:
            raise InputError(f"{options.json}: holds rows of {known}; name a new file")
    new = {"blocks": 0, "seconds": 0.0, "odds": {}, "scores": {}, "texts": {}}
    for row in options.rows:
        if not trials.of_row(entries, row=row):
            entries.append({**setting_of(row, options), "row": row, **copy.deepcopy(new)})
    total = min(total, options.dilemmas or total)
    for block in range(-(-total // BLOCK)):
        for entry in entries:
            inside = block * block_size(entry["row"]) < total
            if entry["row"] in options.rows and entry["blocks"] == block and inside:
                yield entry, block


def block_size(row: str) -> int:
    """Return how many dilemmas a row takes at once."""
    return REASONING_BLOCK if row in REASONING else BLOCK


def setting_of(row: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a row depends on; the index, or the limit of reasoning, only where it does."""
    setting = {"model": model_name(options.model), "prefilter": options.prefilter, "seed": SEED}
    if ROWS[row].kind in INDEXED:
        setting["index"] = FORMAT
    if row in REASONING:
        setting |= {"reasoning_tokens": options.reasoning, "block": REASONING_BLOCK}
    return setting


def model_name(name: str) -> str:
    """Return the last part of a folder or a hub id."""
    return name.rstrip("/").rpartition("/")[2]


def load_agent(options: argparse.Namespace) -> SoVA:
    """Return the one agent that is all rows in turn; its index is built unless it is there."""
    torch.set_num_threads(1)
    data = Path(trials.data_path("daily_dilemmas"))
    texts = [text for name in FILES for text in read_principles(data / name)]
    encoder = SentenceEncoder.load(options.encoder)
    ValueIndex.build(options.index, read_values(data / "values.csv"), texts, encoder=encoder)
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


def decide(
    agent: SoVA,
    dilemmas: Sequence[Dilemma],
    entry: trials.Entry,
    block: int,
    options: argparse.Namespace,
) -> None:
    """Decide a block of dilemmas as one row; add the choices and the new scores to its entry."""
    row, size = ROWS[entry["row"]], block_size(entry["row"])
    records = dilemmas[block * size : (block + 1) * size]
    agent.kind, agent.theory, agent.rule = row.kind, row.theory, row.rule
    agent.read_text = block < options.text and row.kind not in ("ecot", "told")
    start = time.time()
    if row.kind == "told" or options.decisive:  # nothing is told where nothing is expected
        records = [record for record in records if expected_action(record, row.rule)]
    kept = instructions(agent, row, tuple(records)) if row.kind in STEERED else None
    answers = agent.generate(records, kept) if records else []
    for record, answer in zip(records, answers, strict=True):
        entry["odds"][record.id] = [round(z, 4) for z in answer.odds]
        entry["scores"][record.id] = [round(item.score, 1) for item in answer.instructions]
        if row.how == "model":
            own = sum(item.written for item in answer.instructions)
            entry.setdefault("written", {})[record.id] = own
        if entry["row"] in REASONING:
            entry.setdefault("cut", {})[record.id] = answer.cut
            if block < options.text:
                entry.setdefault("reasoning", {})[record.id] = answer.reasoning
        if agent.read_text:
            texts = [answer.choice("text_"), answer.choice("text_swapped_")]
            entry["texts"][record.id] = texts
    entry["items"] = {rule: items(entry["odds"], dilemmas, rule) for rule in RULES}
    entry["metrics"] = {
        rule: round(statistics.mean(mine.values()), 5)
        for rule, mine in entry["items"].items()
        if mine
    }
    entry["seconds"] = round(entry["seconds"] + time.time() - start, 1)
    entry |= {"blocks": block + 1, "torch": torch.__version__, "date": str(date.today())}


def items(odds: Odds, dilemmas: Sequence[Dilemma], rule: str) -> dict[str, int]:
    """Return for each decisive dilemma that a row holds whether it chose, by both orders, well."""
    mine = [d for d in dilemmas if d.id in odds and expected_action(d, rule)]
    chosen = choices(mine, odds, (0, 1))
    return {d.id: int(c == expected_action(d, rule)) for d, c in zip(mine, chosen, strict=True)}


def instructions(agent: SoVA, row: Row, records: tuple[Dilemma, ...]) -> Kept:
    """Return the kept instructions of a block for one of the rows that retrieve some."""
    theory = WRONG[row.theory] if row.kind == "wrong_theory" else row.theory
    found = retrieve(agent, tuple(record.situation for record in records), theory, row.how)
    kept = [mine[: row.most] for mine in found]
    half = len(kept) // 2
    return [*kept[half:], *kept[:half]] if row.kind == "shuffled" else kept


@cache
def retrieve(agent: SoVA, situations: tuple[str, ...], theory: Theory, how: How) -> Kept:
    """Return the kept instructions of a theory for a block, scored once for each way of scoring."""
    agent.map_by = how
    return agent.retrieval.instructions(situations, theory)


if __name__ == "__main__":
    main()
