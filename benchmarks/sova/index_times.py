"""`python -m benchmarks.sova.index_times`: seconds of the index on DailyDilemmas, a row each.

Rows: building it of the value table and both files of principles, opening it again, the page, and
with an encoder the search for the closest reports (`prefilter`): the encoder's pass is a model
call, the rest is not. `ZOO_DATA` names the folder that holds `daily_dilemmas/`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.result import environment
from benchmarks.trials import data_path, markdown
from datamodules.daily_dilemmas_rows import read_principles, read_situations, read_values
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.instruct import closest
from zoo.methods.sova.page import write_graph_page
from zoo.methods.sova.sentence_encoder import SentenceEncoder

FILES = ("principle_openai.csv", "principle_claude.csv")
QUERIES, K = 200, 8
T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what some work gives, and its seconds."""
    start = time.perf_counter()
    found = work()
    return found, time.perf_counter() - start


def measure(folder: Path, encoder: SentenceEncoder | None) -> dict[str, Any]:
    """Return seconds by row, and the counts of the index."""
    data = Path(data_path("daily_dilemmas"))
    table = read_values(data / "values.csv")
    texts = [text for name in FILES for text in read_principles(data / name)]
    index, build = timed(lambda: ValueIndex.build(folder, table, texts, encoder=encoder))
    opened = [timed(lambda: ValueIndex.open(folder))[1] for _ in range(5)]
    _, page = timed(lambda: write_graph_page(index, folder.parent / "graph.html"))
    rows = {"build": build, "open": statistics.median(opened), "page": page}
    if encoder is not None and index.vectors is not None:
        situations = list(read_situations(data / "dilemma.csv").values())[:QUERIES]
        vectors, embed = timed(lambda: encoder.embed(situations))
        known = index.vectors["reports"]
        _, search = timed(lambda: [closest(known, row[None], K) for row in vectors])
        rows |= {"encode a query": embed / QUERIES, "search a query": search / QUERIES}
    return {"seconds": rows, "counts": index.card["counts"]}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", help="encoder of sentences: a folder or a hub id")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here")
    given = parser.parse_args(argv)
    encoder = SentenceEncoder.load(given.encoder) if given.encoder else None
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(Path(scratch) / "index", encoder)
    rows = [[name, f"{seconds:.4f}"] for name, seconds in found["seconds"].items()]
    print("\n".join(markdown(["row", "seconds"], rows)))
    print(", ".join(f"{count} {name}" for name, count in found["counts"].items()))
    if given.json:
        text = json.dumps(found | {"environment": environment()}, indent=2)
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
