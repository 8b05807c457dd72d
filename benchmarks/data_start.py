"""From files to the first batch: what a start of training costs before its first step.

Texts of about 480 tokens with three levels of classes, HdLM's encoder, the tokenizer of SmolLM2,
two processes. The texts are made of English words with a seed; classes and lengths are DBpedia's.

- `ours`: `DBpedia` with stored examples, into an empty cache.
- `map`, the first peer: Hugging Face's `Dataset.map` over the same file, batched, two
  processes: token ids of the texts, attention masks, labels that copy the ids; no chat format and
  no levels.
- `in_memory`: ours as it is for small data: one process, Python lists. Its examples equal the
  stored ones before any time is looked at.

A step is the whole start, reading the file included. The notes of `ours` tell what a second start
takes, and what the loader keeps for itself in memory (`RssAnon`: pages of mapped files can be
dropped at any time).
"""

from __future__ import annotations

import csv
import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets

from benchmarks.harness import Sample, Setting, interleave
from benchmarks.meters import Meter
from benchmarks.result import Peer, Result, agree, compare
from benchmarks.workload import BACKBONE
from datamodules import DBpedia
from datamodules.loader import StepLoader
from zoo.backbone import load_tokenizer
from zoo.methods.hdlm.encoder import LevelEncoder

CLAIM = "first start of training on texts of 480 tokens: no slower than Dataset.map"
NAME = "data_start"
PROCESSES = 2
WORDS = (
    "the of a history known as river built in century village located company founded species "
    "family plant population album released band football player born university north south east"
)


def write_texts(folder: Path, count: int) -> None:
    """Write texts as the three files of DBpedia's classes."""
    rng = random.Random(0)
    for split, number in (("train", count), ("val", 70), ("test", 70)):
        with (folder / f"DBPEDIA_{split}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["text", "l1", "l2", "l3"])
            for i in range(number):
                classes = [f"Kind{i % 9}", f"Group{i % 63}", f"Class{i % 189}"]
                writer.writerow(
                    [" ".join(rng.choices(WORDS.split(), k=rng.randint(320, 440))), *classes]
                )


def processor_seconds() -> float:
    """Return the processor time of this process and of the ended ones that it started."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def anonymous_bytes() -> int:
    """Return the memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def timed(start: Callable[[Path], Any], texts: int) -> tuple[Any, dict[str, Any]]:
    """Run a start on fresh files and an empty cache; return its result and the sample's fields."""
    folder = Path(tempfile.mkdtemp(prefix="data_start"))
    os.environ["ZOO_CACHE"] = str(folder / "cache")
    write_texts(folder, texts)
    load_tokenizer(BACKBONE)  # converts the model's file, once
    meter = Meter("cpu")
    meter.loaded = anonymous_bytes()
    wall, processor = time.perf_counter(), processor_seconds()
    made = start(folder)
    seconds, work = [time.perf_counter() - wall], {"texts": [float(texts)]}
    times = {"seconds": seconds, "cpu_seconds": [processor_seconds() - processor], "work": work}
    return made, {**times, "loaded_bytes": meter.loaded, "peak_bytes": meter.peak()}


def encoder() -> LevelEncoder:
    """Return HdLM's encoder for three levels."""
    return LevelEncoder(load_tokenizer(BACKBONE), 3)


def digest(examples: Any) -> str:
    """Return a digest of what examples hold."""
    hasher = hashlib.sha256()
    for example in examples:
        hasher.update(repr((example.input_ids, example.labels, example.head_ids)).encode())
    return hasher.hexdigest()[:16]


def stored(setting: Setting, texts: int) -> Sample:
    """Encode into an empty cache; then start again."""

    def start(folder: Path) -> Any:
        data = DBpedia(str(folder), keep_in_memory=False, num_proc=PROCESSES)
        return data.examples("train", encoder()), folder

    (examples, folder), measured = timed(start, texts)
    checks = {"texts": len(examples), "examples": digest(examples)}
    del examples
    before, began = anonymous_bytes(), time.perf_counter()
    data, fresh = DBpedia(str(folder), keep_in_memory=False), encoder()
    loader = StepLoader(data.examples("train", fresh), fresh.collate, batch_size=8, shuffle=True)
    next(iter(loader))
    notes = {
        "processes": PROCESSES,
        "second_start_seconds": time.perf_counter() - began,
        "loader_bytes": anonymous_bytes() - before,
    }
    return Sample(**measured, checks=checks, notes=notes)


def in_memory(setting: Setting, texts: int) -> Sample:
    """Encode into lists, in this process."""

    def start(folder: Path) -> Any:
        return DBpedia(str(folder), keep_in_memory=True).examples("train", encoder())

    examples, measured = timed(start, texts)
    return Sample(**measured, checks={"texts": len(examples), "examples": digest(examples)})


def mapped(setting: Setting, texts: int) -> Sample:
    """Tokenise with `Dataset.map`."""

    def start(folder: Path) -> Any:
        tokenizer = load_tokenizer(BACKBONE)

        def tokenise(rows: dict[str, list[str]]) -> dict[str, Any]:
            made = tokenizer(rows["text"], add_special_tokens=False)
            return {**made, "labels": [list(ids) for ids in made["input_ids"]]}

        cache, file = str(folder / "cache"), str(folder / "DBPEDIA_train.csv")
        rows = datasets.Dataset.from_csv(file, cache_dir=cache)
        given = {"batched": True, "num_proc": PROCESSES, "remove_columns": rows.column_names}
        return rows.map(tokenise, **given)

    rows, measured = timed(start, texts)
    return Sample(**measured, checks={"texts": len(rows)}, notes={"processes": PROCESSES})


SIDES = {"ours": stored, "map": mapped, "in_memory": in_memory}


def run(setting: Setting) -> Result:
    """Compare examples, then times."""
    texts = 2000 if setting.quick else 20_000
    repeats = 1 if setting.quick else 3
    samples = interleave(NAME, dict.fromkeys(SIDES, {"texts": texts}), setting, repeats)
    mine = samples["ours"][0]
    checks = {
        "map": agree(mine, samples["map"][0], {"texts": 0.0}),
        "in_memory": agree(mine, samples["in_memory"][0], {"texts": 0.0, "examples": 0.0}),
    }
    peers = [
        Peer("Hugging Face's Dataset.map, the same file", "map", target=1.0),
        Peer("ours in memory, one process", "in_memory"),
    ]
    return compare(NAME, CLAIM, peers, samples, checks)
