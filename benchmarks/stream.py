"""A stream of texts, 300 MB of JSON lines against 1 MB: the same rate, the same memory.

What is timed is reading, parsing, laying texts end to end and cutting blocks of 2,048 tokens with
a place behind each. A token is a byte, so that no tokenizer hides the cost of the stream: a real
one takes longer, and less is left for the stream.

- `ours`: one reader of `datamodules.token_blocks`, once through 300 MB.
- `small`: the same number of blocks of a file of 1 MB, which is read again and again.
- `datasets`: `load_dataset(..., streaming=True)` over the 300 MB, cut in the same way, without a
  place to go on from. Its blocks equal ours before any time is looked at.

A step is a hundredth of the 300 MB.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.data_start import WORDS
from benchmarks.harness import Sample, Setting, interleave
from benchmarks.meters import Clock, Meter
from benchmarks.result import Peer, Result, agree, compare
from datamodules.text_shards import TextShards
from datamodules.token_blocks import TokenBlocks

CLAIM = "streamed texts: 300 MB are read at the rate and in the memory of 1 MB"
NAME = "stream"
LENGTH, STEPS = 2048, 100
LARGE, SMALL = 300, 1  # MB
MB = 10**6


def write_texts(path: Path, megabytes: int) -> None:
    """Write JSON lines of about 2,000 characters, of random words."""
    rng, written = random.Random(0), 0
    paragraphs = [" ".join(rng.choices(WORDS.split(), k=180)) for _ in range(200)]
    with path.open("w") as stream:
        while written < megabytes * MB:
            text = f"{written} {rng.choice(paragraphs)} {rng.choice(paragraphs)}"
            written += stream.write(json.dumps({"text": text}) + "\n")


def ids(text: str) -> list[int]:
    """Return the bytes of a text, and an end."""
    return [*text.encode(), 0]


def ours(path: Path) -> Iterator[list[int]]:
    """Yield the blocks of a file, each with a place behind it."""
    blocks = TokenBlocks(TextShards("texts", str(path)), ids, LENGTH, max_epochs=1000)
    while True:
        yield next(blocks)
        blocks.state_dict()


def theirs(path: Path) -> Iterator[list[int]]:
    """Yield the same blocks through `datasets`."""
    import datasets

    given = {"split": "train", "streaming": True}
    rows: Any = datasets.load_dataset(
        "json", data_files=str(path), trust_remote_code=False, **given
    )
    kept: list[int] = []
    for row in rows:
        kept += ids(row["text"])
        while len(kept) > LENGTH:
            yield kept[: LENGTH + 1]
            del kept[:LENGTH]


def measured(blocks: Any, megabytes: int, large: int) -> Sample:
    """Read as many blocks as the large file holds; the first one is not timed."""
    logging.disable(logging.WARNING)  # that the small file is read again
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        write_texts(path, megabytes)
        stream = blocks(path)
        next(stream)
        meter, clock = Meter("cpu"), Clock("cpu")
        meter.start(torch.nn.Identity())  # there is no model
        hasher, count = hashlib.sha256(), large * MB * 98 // 100 // LENGTH // STEPS
        clock.mark()
        for _ in range(STEPS):
            for block in itertools.islice(stream, count):
                last = block
            clock.mark()
            hasher.update(bytes(last))
        stream.close()
    work = {"tokens": [float(count * LENGTH)] * STEPS}
    checks = {"blocks": hasher.hexdigest()[:16], "count": count * STEPS}
    memory = {"loaded_bytes": meter.loaded, "peak_bytes": meter.peak()}
    fields: dict[str, Any] = {**clock.steps(), **memory, "work": work, "checks": checks}
    return Sample(**fields, notes={"MB": megabytes})


def side_ours(setting: Setting) -> Sample:
    """Read the large file."""
    return measured(ours, LARGE, LARGE)


def side_small(setting: Setting) -> Sample:
    """Read the small file again and again."""
    return measured(ours, SMALL, LARGE)


def side_datasets(setting: Setting) -> Sample:
    """Read the large file with `datasets`."""
    return measured(theirs, LARGE, LARGE)


SIDES = {"ours": side_ours, "small": side_small, "datasets": side_datasets}


def run(setting: Setting) -> Result:
    """Compare blocks, then times."""
    samples = interleave(NAME, {side: {} for side in SIDES}, setting, 1 if setting.quick else 3)
    mine = samples["ours"][0]
    checks = {
        "small": agree(mine, samples["small"][0], {"count": 0.0}),
        "datasets": agree(mine, samples["datasets"][0], {"count": 0.0, "blocks": 0.0}),
    }
    peers = [
        Peer("ours, a file of 1 MB again and again", "small", target=0.95, memory_target=1.05),
        Peer("Hugging Face's streamed datasets, the same file", "datasets", target=1.0),
    ]
    return compare(NAME, CLAIM, peers, samples, checks)
