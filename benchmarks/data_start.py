"""From files to the first batch: what a start of training costs before its first step.

Texts with three levels of classes, HdLM's encoder, the tokenizer of SmolLM2, two processes. The
texts are made of English words with a seed; the number of classes is DBpedia's: an example has some
560 tokens, of which the text is 380, the rest chat format and lists of classes.

- `ours`: `DBpedia` with stored examples, into an empty cache.
- `map`, the first peer: Hugging Face's `Dataset.map` over the same file, batched, two
  processes: token ids of the texts, attention masks, labels that copy the ids; no chat format and
  no levels, so a third of the tokens less.
- `map_prompts`: the same `map`, with prompt, lists of classes and answers around each text, as one
  string: the tokens of ours, still without levels.
- `in_memory`: ours as it is for small data: one process, Python lists. Its examples equal the
  stored ones before any time is looked at.
- `two_ranks`: two processes that want the same examples from an empty cache; one encodes.

A step is the whole start, reading the file included. The notes of `ours` tell of a second start, in
a process of its own: seconds to its first batch, and how much memory it holds more than before it
opened the data, after the first batch and after 500 (`RssAnon`: what no file backs; the rest is
pages of the mapped file, which the system drops when it needs room).

`--size 240000` measures DBpedia's own number; only `ours` and the first peer, once.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import datasets

from benchmarks.harness import ROOT, Sample, Setting, interleave
from benchmarks.meters import Meter
from benchmarks.result import Peer, Result, agree, compare
from benchmarks.stream import WORDS
from benchmarks.workload import BACKBONE
from datamodules import DBpedia
from datamodules.loader import StepLoader
from zoo.backbone import load_tokenizer
from zoo.cache import root
from zoo.methods.hdlm.encoder import LevelEncoder

CLAIM = "first start of training on texts of 560 tokens: no slower than Dataset.map"
NAME = "data_start"
PROCESSES = 2
TEXTS, QUICK, LARGE = 20_000, 2000, 100_000  # above LARGE: the first two sides, once


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


def resident(key: str) -> int:
    """Return a line of this process's memory: `VmRSS`, or `RssAnon`, which no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def timed(start: Callable[[Path], Any], folder: Path, texts: int) -> tuple[Any, dict[str, Any]]:
    """Run a start on fresh files and an empty cache; return its result and the sample's fields."""
    load_tokenizer(BACKBONE)  # converts the model's file, once
    models, cache = root(), folder / "cache"
    cache.mkdir()
    for model in models.iterdir():
        if model.is_dir() and model.name != "examples":
            (cache / model.name).symlink_to(model)
    os.environ["ZOO_CACHE"] = str(cache)
    write_texts(folder, texts)
    meter = Meter("cpu")
    meter.reset()
    wall, processor = time.perf_counter(), processor_seconds()
    made = start(folder)
    seconds, work = [time.perf_counter() - wall], {"texts": [float(texts)]}
    times = {"seconds": seconds, "cpu_seconds": [processor_seconds() - processor], "work": work}
    return made, {**times, "loaded_bytes": meter.loaded, "peak_bytes": meter.peak()}


def encoder() -> LevelEncoder:
    """Return HdLM's encoder for three levels."""
    return LevelEncoder(load_tokenizer(BACKBONE), 3)


def digest(examples: Any) -> str:
    """Return a digest of what examples hold, at most the first 20,000."""
    hasher = hashlib.sha256()
    for example in islice(examples, TEXTS):
        hasher.update(repr((example.input_ids, example.labels, example.head_ids)).encode())
    return hasher.hexdigest()[:16]


def stored(setting: Setting, texts: int) -> Sample:
    """Encode into an empty cache; then start again, in another process."""

    def start(folder: Path) -> Any:
        data = DBpedia(str(folder), keep_in_memory=False, num_proc=PROCESSES)
        return data.examples("train", encoder())

    with tempfile.TemporaryDirectory(prefix=NAME) as name:
        examples, measured = timed(start, Path(name), texts)
        checks = {"texts": len(examples), "examples": digest(examples)}
        stored_bytes = (examples.folder / "examples.arrow").stat().st_size
        again = json.loads(rank(name).communicate()[0].splitlines()[-1])
    notes = {"processes": PROCESSES, "stored_bytes_per_text": stored_bytes / texts}
    notes |= {f"second_start_{key}": value for key, value in again.items()}
    return Sample(**measured, checks=checks, notes=notes)


def two_ranks(setting: Setting, texts: int) -> Sample:
    """Start two processes together on an empty cache."""

    def start(folder: Path) -> Any:
        ranks = [rank(str(folder)) for _ in range(2)]
        return [json.loads(r.communicate()[0].splitlines()[-1]) for r in ranks]

    with tempfile.TemporaryDirectory(prefix=NAME) as name:
        told, measured = timed(start, Path(name), texts)
    assert sum(each["encoded"] for each in told) == 1, told
    return Sample(**measured, checks={"texts": told[0]["texts"]}, notes={"ranks": told})


def rank(folder: str) -> subprocess.Popen[str]:
    """Start a process that begins training on the texts of a folder, up to its first batches."""
    command = [sys.executable, "-m", "benchmarks.data_start", folder]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def begin(folder: str) -> dict[str, Any]:
    """Start as a rank does; return whether it encoded, its seconds and what it holds in memory."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("datamodules").addHandler(handler)
    fresh = encoder()
    before, began = (resident("RssAnon"), resident("VmRSS")), time.perf_counter()
    data = DBpedia(folder, keep_in_memory=False, num_proc=PROCESSES)
    loader = StepLoader(data.examples("train", fresh), fresh.collate, batch_size=8, shuffle=True)
    batches = iter(loader)
    next(batches)
    found = {
        "encoded": any("encoded" in line for line in said),
        "texts": len(loader.sizes),
        "seconds": time.perf_counter() - began,
    }
    for when, count in (("first", 0), ("500", 499)):
        for _ in islice(batches, count):
            pass
        found[f"anonymous_bytes_after_{when}"] = resident("RssAnon") - before[0]
        found[f"resident_bytes_after_{when}"] = resident("VmRSS") - before[1]
    return found


def in_memory(setting: Setting, texts: int) -> Sample:
    """Encode into lists, in this process."""

    def start(folder: Path) -> Any:
        return DBpedia(str(folder), keep_in_memory=True).examples("train", encoder())

    with tempfile.TemporaryDirectory(prefix=NAME) as name:
        examples, measured = timed(start, Path(name), texts)
    return Sample(**measured, checks={"texts": len(examples), "examples": digest(examples)})


def mapped(setting: Setting, texts: int) -> Sample:
    """Tokenise the texts with `Dataset.map`."""
    return tokenised(texts, lambda row: row["text"])


def mapped_prompts(setting: Setting, texts: int) -> Sample:
    """Tokenise prompts and answers with `Dataset.map`."""
    fresh = encoder()
    with tempfile.TemporaryDirectory(prefix=NAME) as name:  # one prompt around all texts
        write_texts(Path(name), QUICK)
        data = DBpedia(name, keep_in_memory=True, max_train=1)
        record: Any = data.records("train")[0]
        (example,) = data.examples("train", fresh)
    whole = fresh.tokenizer.decode(example.input_ids)
    before, after = whole.split(record.text)
    return tokenised(texts, lambda row: before + row["text"] + after)


def tokenised(texts: int, prompt: Callable[[dict[str, str]], str]) -> Sample:
    """Tokenise what is made of each row with `Dataset.map`."""

    def start(folder: Path) -> Any:
        tokenizer = load_tokenizer(BACKBONE)

        def tokenise(rows: dict[str, list[str]]) -> dict[str, Any]:
            prompts = [prompt({"text": text}) for text in rows["text"]]
            made = tokenizer(prompts, add_special_tokens=False)
            return {**made, "labels": [list(ids) for ids in made["input_ids"]]}

        cache, file = str(folder / "cache"), str(folder / "DBPEDIA_train.csv")
        rows = datasets.Dataset.from_csv(file, cache_dir=cache)
        given = {"batched": True, "num_proc": PROCESSES, "remove_columns": rows.column_names}
        return rows.map(tokenise, **given)

    with tempfile.TemporaryDirectory(prefix=NAME) as name:
        rows, measured = timed(start, Path(name), texts)
        tokens = sum(map(len, islice((row["input_ids"] for row in rows), 1000))) / 1000
    notes = {"processes": PROCESSES, "tokens_per_text": tokens}
    return Sample(**measured, checks={"texts": len(rows)}, notes=notes)


SIDES = {
    "ours": stored,
    "map": mapped,
    "map_prompts": mapped_prompts,
    "in_memory": in_memory,
    "two_ranks": two_ranks,
}


def run(setting: Setting) -> Result:
    """Compare examples, then times."""
    texts = setting.size or (QUICK if setting.quick else TEXTS)
    sides = [*SIDES][:2] if texts > LARGE else [*SIDES]
    repeats = 1 if setting.quick or texts > LARGE else 2
    samples = interleave(NAME, {side: {"texts": texts} for side in sides}, setting, repeats)
    mine = samples["ours"][0]
    checks = {side: agree(mine, samples[side][0], {"texts": 0.0}) for side in sides[1:]}
    if "in_memory" in sides:
        same = agree(mine, samples["in_memory"][0], {"texts": 0.0, "examples": 0.0})
        checks["in_memory"] = same
    peers = [
        Peer("Hugging Face's Dataset.map, the bare texts", "map", target=1.0),
        Peer("Dataset.map, the texts in their prompts", "map_prompts", target=1.0),
        Peer("ours in memory, one process", "in_memory"),
        Peer("ours, two ranks at once", "two_ranks"),
    ]
    peers = [peer for peer in peers if peer.side in sides]
    per_text = {
        side: [1e3 * sample.cpu_seconds[0] / texts for sample in samples[side]] for side in sides
    }
    return compare(NAME, CLAIM, peers, samples, checks, cpu_milliseconds_per_text=per_text)


if __name__ == "__main__":
    print(json.dumps(begin(sys.argv[1])))
