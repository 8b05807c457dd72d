"""Replies in ESConv and DailyDialog, plain and under Plutchik's instructions, graded by a judge.

    python -m benchmarks.sova.replies --model M --judge J --encoder E --json FILE

The last supporter turn of a dialogue is written anew by the same agent, `direct` and `SoVA`. A
judge grades both by the rubric (`zoo.methods.sova.rubric`) against one emotion: that of the best
kept instruction's principle. A dialogue with no instruction is left out of both. Overlap with the
annotated reply stands beside it. Dialogues come in a seeded order, a block at a time; what is there
is not done again. Differences are paired percentile bootstraps over dialogues, 95 %.

Needs `ZOO_DATA`; one thread. A judge of half a billion parameters says little; name a larger one.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import datamodules
from benchmarks import trials
from benchmarks.sova.dilemmas import add_models, load_agent, model_name
from zoo.backbone import Backbone
from zoo.judges.local import LocalLLM
from zoo.methods.sova.metrics import ReplyOverlap
from zoo.methods.sova.module import SoVA
from zoo.methods.sova.replies import gold, situation
from zoo.methods.sova.rubric import ASPECTS, grade
from zoo.ranking.metrics import bootstrap
from zoo.records import Dialogue

DATA = {"esconv": datamodules.ESConv, "dailydialog": datamodules.DailyDialog}
KINDS = ("direct", "sova")
BLOCK, SEED, WEIGHT = 4, 0, 0.5
JUDGE_WINDOW = 4096
LONGEST = 1500  # characters of a conversation


def main(arguments: Sequence[str] | None = None) -> None:
    """Reply and grade where it is missing, then print the tables."""
    parser = trials.make_parser(__doc__)
    add_models(parser)
    parser.add_argument("--judge", help="model that grades; the agent's by default")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--dialogues", type=int, default=40, help="of each dataset")
    parser.add_argument("--new_tokens", type=int, default=40)
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "data", "block", "model", "judge")
    if not options.table:
        run(finished, options)
    print("\n".join(line for name in DATA for line in table(finished.entries, name)))


def run(finished: trials.FinishedRows, options: argparse.Namespace) -> None:
    """Reply and grade, a block of each dataset in turn."""
    judge_name = options.judge or options.model
    names = model_name(options.model), model_name(judge_name)
    blocks = range(-(-options.dialogues // BLOCK))
    jobs = finished.missing((data, block, *names) for block in blocks for data in options.data)
    agent = load_agent(options)
    agent.theory, agent.max_reply_tokens = "emotion", options.new_tokens
    backbone = Backbone(judge_name, dtype=options.dtype)
    judge = LocalLLM.load(backbone, max_new_tokens=1, max_length=JUDGE_WINDOW)
    dialogues = {data: in_order(data) for data in options.data}
    for data, block, *_ in jobs:
        part = dialogues[data][block * BLOCK : min((block + 1) * BLOCK, options.dialogues)]
        rows = graded(agent, judge, part)
        fields = {"data": data, "block": block, "model": names[0], "judge": names[1]}
        finished.add({**fields, "asked": len(part), "rows": rows})


def in_order(data: str) -> list[Dialogue]:
    """Return the short test dialogues of a dataset in their seeded order."""
    records = DATA[data](trials.data_path(data)).records("test")
    found = [
        record
        for record in records
        if isinstance(record, Dialogue) and len(situation(record)) <= LONGEST
    ]
    random.Random(SEED).shuffle(found)
    return found


def graded(agent: SoVA, judge: Any, dialogues: Sequence[Dialogue]) -> list[dict[str, Any]]:
    """Return both replies of each dialogue that has an instruction, with what the judge says."""
    agent.kind = "sova"
    kept = agent.kept_instructions(dialogues)
    pairs = [(d, k) for d, k in zip(dialogues, kept, strict=True) if k]
    if not pairs:
        return []
    asked = [dialogue for dialogue, _ in pairs]
    labels = {p.id: p.label for p in agent.retrieval.principles}
    said: dict[str, list[Any]] = {}
    for kind in KINDS:  # without instructions the prompt is the plain one
        said[kind] = agent.generate(asked, [k if kind == "sova" else [] for _, k in pairs])
    rows = []
    for place, (dialogue, k) in enumerate(pairs):
        wanted = labels[k[0].principle_ids[0]].lower()
        row: dict[str, Any] = {"id": dialogue.id, "gold": gold(dialogue).text}
        for kind in KINDS:
            text = said[kind][place].text
            grades = grade(judge, situation(dialogue), text, wanted)
            row[kind] = {"text": text, **asdict(grades), "reward": grades.reward(WEIGHT)}
        rows.append(row)
    return rows


def table(entries: Sequence[trials.Entry], data: str) -> list[str]:
    """Return the Markdown table of a dataset: means, and SoVA minus direct with intervals."""
    mine = trials.of_row(entries, data=data)
    rows = [row for entry in mine for row in entry["rows"]]
    if len(rows) < 2:
        return []
    scores = (*ASPECTS, "reward")
    cells = []
    for kind in KINDS:
        overlap = ReplyOverlap()
        overlap.update([row[kind]["text"] for row in rows], [row["gold"] for row in rows])
        means = [f"{statistics.mean(row[kind][name] for row in rows):.2f}" for name in scores]
        named = statistics.mean(row[kind]["named"] == row[kind]["wanted"] for row in rows)
        found = overlap.compute()
        words = [f"{found[name]:.1f}" for name in ("rouge_l", "bleu_2")]
        cells.append([kind, *means, *trials.percent(named), *words])
    gaps = [paired([row["sova"][n] - row["direct"][n] for row in rows]) for n in scores]
    cells.append(["sova - direct", *gaps, "", "", ""])
    asked = sum(entry["asked"] for entry in mine)
    head = f"{data}: {len(rows)} of {asked} dialogues had an instruction"
    titles = ("row", *scores, "named as wanted", "rouge_l", "bleu_2")
    return ["", head, "", *trials.markdown(titles, cells)]


def paired(differences: Sequence[float]) -> str:
    """Return a mean difference with its interval."""
    low, high = bootstrap(differences)
    return f"{statistics.mean(differences):+.2f} ({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    main()
