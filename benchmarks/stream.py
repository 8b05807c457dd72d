"""A stream of texts, 1 GB of JSON lines against 1 MB: the same rate, the same memory.

What is timed is reading, parsing, laying texts end to end and cutting blocks of 2,048 tokens with
a place behind each. A token is a byte, so that no tokenizer hides the cost of the stream: a real
one takes longer, and less is left for the stream.

- `ours`: one reader of `datamodules.token_blocks`, once through 300 MB.
- `small`, `middle`: as many blocks of a file of 1 MB or 30 MB, which is read again and again.
- `large`: once through 1 GB.
- `datasets`: `load_dataset(..., streaming=True)` over the 300 MB, cut in the same way, without a
  place to go on from. Its blocks equal ours before any time is looked at.

Each side is a process of its own, which has not read or written anything before; another one writes
its file. `held_bytes` is the highest resident memory from the first block on, above what the
process had before it opened the file. A step is 3 MB; `--size N` makes 300 MB N MB, and 1 GB
10 N / 3 MB.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Sample, Setting, interleave
from benchmarks.meters import Clock, Meter
from benchmarks.result import Peer, Result, agree, compare
from datamodules.text_shards import TextShards
from datamodules.token_blocks import TokenBlocks

CLAIM = "streamed texts: 1 GB is read at the rate and in the memory of 1 MB"
NAME = "stream"
LENGTH, STEP = 2048, 3  # tokens of a block, MB of a step
WHOLE, QUICK = 300, 60  # MB
MB = 10**6
WORDS = (
    "the of a history known as river built in century village located company founded species "
    "family plant population album released band football player born university north south east"
)


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


def measured(blocks: Any, megabytes: int, read: int) -> Sample:
    """Read as many blocks as `read` MB hold; the first one is not timed."""
    logging.disable(logging.WARNING)  # that a small file is read again
    with tempfile.TemporaryDirectory(prefix=NAME) as folder:
        path = Path(folder) / "texts.jsonl"
        writing = [sys.executable, "-m", "benchmarks.stream", str(path), str(megabytes)]
        subprocess.run(writing, cwd=ROOT, check=True)
        meter, clock = Meter("cpu"), Clock("cpu")
        meter.reset()
        stream = blocks(path)
        next(stream)
        hasher, count, steps = hashlib.sha256(), STEP * MB * 98 // 100 // LENGTH, read // STEP
        clock.mark()
        for _ in range(steps):
            for block in itertools.islice(stream, count):
                last = block
            clock.mark()
            hasher.update(bytes(last))
        stream.close()
        held = meter.peak() - meter.loaded
    work = {"tokens": [float(count * LENGTH)] * steps}
    checks = {"blocks": hasher.hexdigest()[:16], "count": count * steps}
    memory = {"loaded_bytes": meter.loaded, "peak_bytes": meter.peak()}
    fields: dict[str, Any] = {**clock.steps(), **memory, "work": work, "checks": checks}
    return Sample(**fields, notes={"MB": megabytes, "held_bytes": held})


def side_ours(setting: Setting, megabytes: int, read: int) -> Sample:
    """Read a file with our reader."""
    return measured(ours, megabytes, read)


def side_datasets(setting: Setting, megabytes: int, read: int) -> Sample:
    """Read a file with `datasets`."""
    return measured(theirs, megabytes, read)


SIDES = dict.fromkeys(("ours", "small", "middle", "large"), side_ours) | {"datasets": side_datasets}


def run(setting: Setting) -> Result:
    """Compare blocks, then times."""
    whole = setting.size or (QUICK if setting.quick else WHOLE)
    sizes = {"ours": whole, "small": 1, "middle": whole // 10, "datasets": whole}
    sides = {side: {"megabytes": size, "read": whole} for side, size in sizes.items()}
    large = whole * 10 // 3
    samples = interleave(NAME, sides, setting, 1 if setting.quick else 2)
    samples |= interleave(NAME, {"large": {"megabytes": large, "read": large}}, setting, 1)
    mine = samples["ours"][0]
    checks = {
        "small": agree(mine, samples["small"][0], {"count": 0.0}),
        "datasets": agree(mine, samples["datasets"][0], {"count": 0.0, "blocks": 0.0}),
    }
    peers = [
        Peer("ours, a file of 1 MB again and again", "small", target=0.95, memory_target=1.05),
        Peer("ours, a tenth of the file again and again", "middle", target=0.95),
        Peer("Hugging Face's streamed datasets, the same file", "datasets", target=1.0),
    ]
    by_size = {
        f"{side}: {found[0].notes['MB']} MB": {
            "held_MiB": [round(sample.notes["held_bytes"] / 2**20, 1) for sample in found],
            "processor_ms_per_MB": [
                round(1e3 * statistics.median(sample.cpu_seconds) / STEP, 2) for sample in found
            ],
        }
        for side, found in samples.items()
    }
    return compare(NAME, CLAIM, peers, samples, checks, by_size=by_size)


if __name__ == "__main__":
    write_texts(Path(sys.argv[1]), int(sys.argv[2]))
