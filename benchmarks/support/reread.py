"""Read what models wrote for a committed table again by the reader of today, and score it anew.

    python -m benchmarks.support.reread --json benchmarks/results/support-2026-11-28.json

Nothing is generated. CoCT's rows are read from the words that the JSON keeps; what was measured
beside the words (perplexity, calls, cost) stays. Of rows with an annotated history the accuracy of
emotions goes: the history shows the right one. Then the tables are printed. Needs `ZOO_DATA`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import zoo
from benchmarks.support.data import tested
from benchmarks.support.items import item_scores
from benchmarks.support.quality import BINS
from benchmarks.support.table import ROWS, table
from benchmarks.trials import Entry, write_entries


def reread(entry: Entry) -> Entry:
    """Return an entry as its words are read today."""
    row, scores = ROWS[entry["row"]], dict(entry["scores"])
    if row.given.get("oracle_history"):
        scores.pop("emotion_accuracy", None)
    asked = tested(entry["set"], argparse.Namespace(**entry["settings"]))
    if row.method != "CoCT":
        return {**entry, "scores": scores, "items": item_scores(entry["replies"], asked)}
    module: Any = zoo.CoCT({"name": entry["model"]}, **row.given)
    written = [entry["replies"][decision.id][2] for decision in asked]
    answers = [replace(module.read(words), calls=scores["calls"]) for words in written]
    pairs = list(zip(asked, answers, strict=True))
    found = module.score_answers(pairs, "test")
    kept = {k: v for k, v in scores.items() if k.startswith("perplexity")}
    new = {k: round(v, 3) for k, v in found.items() if k.split("/")[0] not in BINS}
    replies = {d.id: [a.strategy, a.reply, a.words] for d, a in pairs}
    items = item_scores(replies, asked)
    return {**entry, "scores": {**new, **kept}, "replies": replies, "items": items}


def main(arguments: Sequence[str] | None = None) -> None:
    """Replace a file of results by what is read today, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, required=True)
    path: Path = parser.parse_args(arguments).json
    entries = [reread(entry) for entry in json.loads(path.read_text("utf-8"))]
    write_entries(path, entries)
    print("\n".join(table(entries)))


if __name__ == "__main__":
    main()
