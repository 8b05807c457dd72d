"""Emotional support as judged by a model: replies against the dataset's, and simulated seekers.

    python -m benchmarks.support.judged compare --replies SUPPORT_JSON --judge MODEL --json FILE
    python -m benchmarks.support.judged simulate --talker MODEL --json FILE

`compare` takes the replies of rows of `benchmarks.support` and lets a model compare each with the
supporter's own, in both orders; a disagreement is a tie. Its answers are kept beside `--json` and
are not asked for again. `simulate` lets a model play a seeker who talks about each topic until it
wishes to stop, with CoCT and the baselines of its paper: mean length of a reply, mean rounds.
Conversations that the JSON already holds are skipped. Both print their table. Needs `ZOO_DATA`
(`compare`). A judge or seeker of half a billion parameters says little; name a larger one.
"""

from __future__ import annotations

import argparse
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import zoo
from benchmarks.support.data import tested
from benchmarks.trials import markdown
from zoo.backbone import Backbone
from zoo.judges.local import LocalLLM
from zoo.methods.coct.concepts import TOPICS
from zoo.records import SUPPORTER, Dialogue, Turn
from zoo.support.judging import SupportJudge, against_data, win_rates
from zoo.support.simulation import SimulatedSeeker, Simulation, simulate, simulation_scores

METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # of CoCT's table of Cskills
    "direct": ("ESCBaseline", {"kind": "direct"}),
    "CSIM": ("ESCBaseline", {"kind": "csim"}),
    "RAG": ("ESCBaseline", {"kind": "rag"}),
    "CoCT": ("CoCT", {"concepts": "cskills"}),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge or simulate what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    verbs = parser.add_subparsers(dest="verb", required=True)
    compare = verbs.add_parser("compare")
    compare.add_argument("--replies", type=Path, required=True, help="JSON of benchmarks.support")
    compare.add_argument("--judge", required=True)
    compare.add_argument("--rows", nargs="+", help="all by default")
    compare.add_argument("--set", default="esconv")
    compare.add_argument("--first", type=int, default=30, help="decisions of each row")
    talk = verbs.add_parser("simulate")
    talk.add_argument("--talker", required=True, help="both sides of the conversation")
    talk.add_argument("--rows", nargs="+", choices=METHODS, default=list(METHODS))
    talk.add_argument("--topics", nargs="+", default=list(TOPICS))
    talk.add_argument("--max_rounds", type=int, default=6)
    talk.add_argument("--new_tokens", type=int, default=60)
    for verb in (compare, talk):
        verb.add_argument("--json", type=Path, required=True)
        verb.add_argument("--dtype", default="float32")
    options = parser.parse_args(arguments)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    rows = judged(options) if options.verb == "compare" else talked(options)
    options.json.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print("\n".join(table(rows)))


def judged(options: Namespace) -> list[dict[str, Any]]:
    """Return win, tie and lose of each row."""
    model = Backbone(options.judge, dtype=options.dtype)
    llm = LocalLLM.load(model, max_new_tokens=96, name=Path(options.judge).name)
    judge = SupportJudge(llm, forced=True, file=options.json.with_suffix(".jsonl"))
    rows = []
    for entry in json.loads(options.replies.read_text()):
        if entry["set"] != options.set or entry["row"] not in (options.rows or [entry["row"]]):
            continue
        points = {d.id: d for d in tested(options.set, Namespace(**entry["settings"]))}
        pairs = [
            (points[name], Turn(SUPPORTER, reply, strategy=strategy))
            for name, (strategy, reply, *_) in [*entry["replies"].items()][: options.first]
        ]
        rows.append({"row": entry["row"], **win_rates(against_data(judge, pairs))})
        print(rows[-1], flush=True)
    return rows


def talked(options: Namespace) -> list[dict[str, Any]]:
    """Return length and rounds of each row's conversations, a file line for each of them."""
    path = options.json.with_suffix(".jsonl")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    settings = {name: getattr(options, name) for name in ("talker", "max_rounds", "new_tokens")}
    known = {(entry["row"], entry["topic"]): entry for entry in map(json.loads, lines)}
    if any(entry["settings"] != settings for entry in known.values()):
        sys.exit(f"{path}: holds conversations of other settings; name another file")
    known = {key: entry for key, entry in known.items() if not entry["failure"]}
    backbone = {"name": options.talker, "dtype": options.dtype}
    base: Any = None
    for row in options.rows:
        method, given = METHODS[row]
        module = getattr(zoo, method)(backbone, max_new_tokens=options.new_tokens, **given)
        if base is None:
            module.configure_model()
            base = module.eval()
        module.lm, module.tokenizer, module.built = base.lm, base.tokenizer, True
        llm = LocalLLM(base.lm, base.tokenizer, max_new_tokens=options.new_tokens)
        for topic in options.topics:
            if (row, topic) in known:
                continue

            def reply(turns: tuple[Turn, ...], module: Any = module) -> str:
                return str(module.respond([Dialogue(turns, id="talk")])[0].reply)

            simulation = simulate(SimulatedSeeker(llm, topic), reply, max_rounds=options.max_rounds)
            known[row, topic] = {
                "row": row,
                "topic": topic,
                "settings": settings,
                **asdict(simulation),
            }
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(known[row, topic], ensure_ascii=False) + "\n")
            print(row, topic, simulation.rounds, flush=True)
    return [{"row": row, **scores(known, row, options.topics)} for row in options.rows]


def scores(
    known: dict[tuple[str, str], dict[str, Any]], row: str, topics: Sequence[str]
) -> dict[str, float]:
    """Return the scores of a row's conversations."""
    ones = [known[row, topic] for topic in topics]
    return simulation_scores(
        [Simulation(tuple(Turn(**t) for t in o["turns"]), o["stopped"], o["failure"]) for o in ones]
    )


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return Markdown, a line for each row."""
    titles = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[row.get(title, "-") for title in titles] for row in rows]
    shown = [[f"{c:.2f}" if isinstance(c, float) else str(c) for c in row] for row in cells]
    return markdown(titles, shown)


if __name__ == "__main__":
    main()
