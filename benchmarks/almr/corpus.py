"""English texts and added German captions, a tokenizer of both, and tiny Llamas to start from.

English: the captions of half of Multi30k's pictures, a sample of C4, a sample of Wikipedia. German:
the captions of the other half.
"""

from __future__ import annotations

import gzip
import json
import random
import textwrap
from itertools import pairwise
from pathlib import Path

from benchmarks.small_models import bpe_tokenizer, write_llama
from benchmarks.trials import data_path

VOCABULARY = 2048
SHARD = 500  # texts in a file
TEXT = 500  # longest text of the web, characters
PASSAGE = 5  # such texts that stay together, as those of an article tell of one thing
HELD_OUT = 1000  # pairs for instructions and preferences, in neither text
SIZES = {"small": (128, 344), "large": (256, 688)}  # width, inner width: 4x the weights of a block


def lines(path: Path) -> list[str]:
    """Return the lines of a gzipped file that are not blank."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip()]


def web_passages() -> list[tuple[str, ...]]:
    """Return the passages of C4 and Wikipedia, each a few short texts in order."""
    folder = Path(data_path("llamafactory_demo_text"))
    rows = json.loads((folder / "c4_demo.json").read_text("utf-8"))
    documents = [row["text"] for row in rows] + lines(folder / "wiki_demo.txt.gz")
    wrapped = (textwrap.wrap(document, TEXT) for document in documents)
    return [tuple(w[i : i + PASSAGE]) for w in wrapped for i in range(0, len(w), PASSAGE)]


def write_corpus(folder: Path) -> None:
    """Write the two texts, instructions and preferences; no picture is in two of them."""
    captions = Path(data_path("multi30k"))
    english, german = lines(captions / "train.en.gz"), lines(captions / "train.de.gz")
    half = (len(english) - HELD_OUT) // 2
    passages = [*web_passages(), *((caption,) for caption in english[:half])]
    random.Random(0).shuffle(passages)
    texts = {"english": [text for passage in passages for text in passage]}
    texts["german"] = german[half : 2 * half]
    for name, own in texts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(0, len(own), SHARD):  # their order is what a seed changes
            write_lines(folder / name / f"{i:06}.txt", own[i : i + SHARD])
    pairs = list(zip(english[-HELD_OUT:], german[-HELD_OUT:], strict=True))
    triples = [{"query": f"In German: {asked}", "answer": said} for asked, said in pairs]
    preferences = [
        {"query": f"In German: {asked}", "chosen": said, "rejected": wrong}
        for (asked, said), (_, wrong) in pairwise(pairs)
        if said != wrong
    ]
    for name, rows in (("answers", triples), ("preferences", preferences)):
        encoded = [json.dumps(row, ensure_ascii=False) for row in rows]
        write_lines(folder / f"{name}.train.jsonl", encoded[:-200])
        write_lines(folder / f"{name}.val.jsonl", encoded[-200:])


def write_lines(path: Path, texts: list[str]) -> None:
    """Write a text a line."""
    path.write_text("\n".join(texts) + "\n", "utf-8")


def write_models(corpus: Path, folder: Path) -> None:
    """Write the models that nothing has been learned by, `folder/small` and `folder/large`."""
    files = sorted(corpus.glob("*/*.txt"))
    texts = (line for path in files for line in path.read_text("utf-8").splitlines(keepends=True))
    tokenizer = bpe_tokenizer(texts, VOCABULARY)
    for name, (width, inner) in SIZES.items():
        write_llama(folder / name, tokenizer, width, inner)
