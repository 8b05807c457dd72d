"""A judge's grades of translations that `benchmarks.alpo` has kept: one JSON entry per block.

    python -m benchmarks.alpo.judged --rows FILE --judge MODEL --json FILE

The judge is a local model, asked by likelihood (`zoo.methods.alpo.scoring.ChoiceScorer`) with the
training rubric, not with those of the evaluation (`benchmarks.alpo.quality`). All rows of the first
seed are graded line by line, and two controls: the reference, and `another line`, the reference of
another block. A judge that does not tell these two apart says nothing about the rows. Differences
to SFT are paired over blocks, with 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

import zoo
from benchmarks import trials
from benchmarks.alpo.scores import Lines, difference
from benchmarks.alpo.stages import ROWS, subtitles
from zoo.methods.alpo.__main__ import local_judge
from zoo.methods.alpo.scoring import ChoiceScorer
from zoo.records import SubtitleBlock

CONTROLS = ("reference", "another line")
WINDOW = 4096


def main(arguments: Sequence[str] | None = None) -> None:
    """Grade the blocks that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="finished blocks; it is resumed")
    parser.add_argument("--rows", type=Path, required=True, help="JSON of benchmarks.alpo")
    parser.add_argument("--judge", required=True, help="model that grades")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--blocks", type=int, help="stop after so many; all by default")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "block", "judge")
    if not options.table:
        run(finished, options)
    print("\n".join(table(finished.entries)))


def run(finished: trials.FinishedRows, options: argparse.Namespace) -> None:
    """Grade block after block."""
    torch.set_num_threads(1)
    entries = json.loads(options.rows.read_text("utf-8"))
    entries = trials.of_row(entries, seed=min(entry["seed"] for entry in entries))
    blocks = read_blocks(entries[0]["settings"])
    name = options.judge.rstrip("/").rpartition("/")[2]
    backbone = zoo.Backbone(name=options.judge, dtype=options.dtype)
    scorer = ChoiceScorer(local_judge(backbone, 0.0, WINDOW, "--judge"))
    for block, _ in finished.missing((i, name) for i in range(len(blocks[: options.blocks]))):
        start = time.time()
        said = {entry["row"]: entry["lines"][block] for entry in entries}
        said |= dict(zip(CONTROLS, controls(blocks, block), strict=True))
        grades = graded(scorer, blocks[block], said)
        seconds = round(time.time() - start, 1)
        finished.add({"block": block, "judge": name, "seconds": seconds, "grades": grades})


def read_blocks(settings: Mapping[str, str]) -> list[SubtitleBlock]:
    """Return the test blocks of a run from the settings that it kept."""
    numbers = {name: int(settings[name]) for name in ("core", "context", "batch_size", "tests")}
    data = None if settings["data"] == "None" else settings["data"]
    found = subtitles(Namespace(data=data, **numbers)).records("test")
    return [block for block in found if isinstance(block, SubtitleBlock)]


def controls(blocks: Sequence[SubtitleBlock], place: int) -> tuple[Lines, Lines]:
    """Return the reference of a block, and that of the block half the list away."""
    other = blocks[(place + len(blocks) // 2) % len(blocks)].target or ()
    mine = blocks[place].target or ()
    return mine, tuple(other[i % len(other)] for i in range(len(mine)))


def graded(
    scorer: ChoiceScorer, block: SubtitleBlock, said: Mapping[str, Lines]
) -> dict[str, list[float]]:
    """Return the grades of a block's lines, 0 to 100, for each row; a text is asked for once."""
    grades: dict[str, list[float]] = {row: [] for row in said}
    for i in range(len(block.target or ())):
        texts = list(dict.fromkeys(lines[i] for lines in said.values()))
        scores = scorer(block, i, i + 1, [(text,) for text in texts])
        if scores is None:
            raise ValueError(f"{block.id}: a line does not fit into the judge's window")
        of_text = dict(zip(texts, scores, strict=True))
        for row, lines in said.items():
            grades[row].append(round(of_text[lines[i]], 3))
    return grades


def table(entries: Sequence[trials.Entry]) -> list[str]:
    """Return a Markdown table: mean grades, and differences to SFT."""
    if not entries:
        return []
    rows = [row for row in (*ROWS, *CONTROLS) if row in entries[0]["grades"]]
    of_block = {row: [statistics.mean(entry["grades"][row]) for entry in entries] for row in rows}
    cells = []
    for row in rows:
        shown = [f"{statistics.mean(of_block[row]):.2f}", "-"]
        if row != "SFT":
            middle, *ends = difference(of_block[row], of_block["SFT"])
            shown[1] = f"{middle:+.2f} ({ends[0]:+.2f} to {ends[1]:+.2f})"
        cells.append([row, *shown])
    head = f"{entries[0]['judge']}: {len(entries)} blocks"
    return [head, "", *trials.markdown(("row", "grade", "grade - SFT (95 % interval)"), cells)]


if __name__ == "__main__":
    main()
