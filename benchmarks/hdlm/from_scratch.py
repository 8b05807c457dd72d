"""HdLM and its controls on all 150 intents of CLINC150, by a small Llama from scratch.

    python -m benchmarks.hdlm.from_scratch --json benchmarks/results/hdlm-small.json
    python -m benchmarks.hdlm.from_scratch --json benchmarks/results/hdlm-small.json --table

A Llama of four blocks that nothing has been learned by, whose BPE tokenizer has seen the training
texts, names the domain (level 1) and then the intent (level 2) in words; HdLM's domain is decoded
after block 3 of 4. Every row learns the same texts as often, in as many steps, and is decoded
greedily and unconstrained on the same held-out texts; an entry keeps what is right, text by text.
`--held val --lr ...` is the search for learning rates: another seed, validation texts. Needs
`ZOO_DATA`; one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import lightning
import torch

import datamodules
import zoo
from benchmarks import trials
from benchmarks.hdlm.parts import limit
from benchmarks.hdlm.quality import ROWS, WEIGHTS, LossCurve, settings
from benchmarks.small_models import bpe_tokenizer, write_llama
from benchmarks.training import DEVICE, GivenRecords, quiet_trainer
from benchmarks.trials import Entry
from datamodules.clinc150 import in_file_order
from zoo.methods.hdlm.metrics import FAILED, path_scores
from zoo.nn.blocks import num_blocks
from zoo.nn.heads import stream_size
from zoo.records import LabelPath, Taxonomy, Triple

LR = 3e-3  # the best of those tried for each row on validation texts, seed 100
WIDTH, INNER = 64, 176
DEVIATION = WIDTH**-0.5  # of first weights
SYSTEM = "Sort"  # one token; the encoder has a longer line for none
TESTED, RECALLED = 20, 5  # held-out and training texts of an intent that are decoded
TITLES = [
    "row",
    "seeds",
    "epochs",
    "lr",
    "joint",
    "level 1",
    "level 2",
    "no class",
    "joint, training texts",
]
TITLES += ["training tokens", "seconds"]
SHOWN = ("joint_accuracy", "level_1_accuracy", "level_2_accuracy", "failed")


@dataclass(frozen=True)
class Reading:
    """How much a small model reads.

    Attributes:
        vocabulary: Tokens of its BPE tokenizer.
        window: Longest input in tokens, names of classes included.
        name_tokens: Most tokens of a decoded name, its end included.
        texts: Labelled texts of a step.
    """

    vocabulary: int
    window: int
    name_tokens: int
    texts: int


INTENTS = Reading(vocabulary=2048, window=192, name_tokens=8, texts=16)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rows that are missing, then print the table."""
    parser = trials.make_parser(__doc__, rows=ROWS, seeds=range(5))
    parser.add_argument("--held", choices=("val", "test"), default="test", help="split to decode")
    parser.add_argument("--lr", type=float, nargs="+", default=[LR])
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "held", "row", "seed", "lr", "epochs")
    if not options.table:
        torch.set_num_threads(1)
        finished.run(jobs(options), run_row)
    print("\n".join(table(finished.entries)))


def jobs(options: argparse.Namespace) -> list[trials.Job]:
    """Return split, row, seed, learning rate and epochs, all rows of a seed before the next."""
    return [
        (options.held, row, seed, lr, options.epochs)
        for seed in options.seeds
        for lr in options.lr
        for row in options.rows
    ]


def run_row(held: str, row: str, seed: int, lr: float, epochs: int) -> Entry:
    """Train and test one row; return its entry."""
    data = datamodules.CLINC150(trials.data_path("clinc150"))
    train = in_file_order(cast(list[LabelPath], data.records("train")))
    given = in_file_order(cast(list[LabelPath], data.records(held)))
    test, seen = limit(given, TESTED), limit(train, RECALLED)
    curve, start = LossCurve(), time.process_time()
    module = trained(row, train, lr, epochs, seed, curve, INTENTS)
    learned = time.process_time()
    paths, recalled = decoded(module, test), decoded(module, seen)
    return {
        "held": held,
        "row": row,
        "seed": seed,
        "lr": lr,
        "epochs": epochs,
        "k": module.ks,
        "steps": len(curve.losses),
        "tokens": curve.tokens,
        "texts": {"train": len(train), held: len(test)},
        "seconds": {
            "train": round(learned - start),
            "test": round(time.process_time() - learned),
        },
        "metrics": scores(paths, test),
        "metrics_train": scores(recalled, seen),
        "items": {
            "joint": [int(tuple(p) == r.labels) for p, r in zip(paths, test, strict=True)],
            "level_1": [int(p[0] == r.labels[0]) for p, r in zip(paths, test, strict=True)],
        },
        "losses": thinned(curve.losses, 20),
        "stream": round(stream_below_head(module, train[0]), 2),
    }


def trained(
    row: str,
    train: Sequence[LabelPath],
    lr: float,
    epochs: int,
    seed: int,
    curve: LossCurve,
    reading: Reading,
) -> zoo.HdLM:
    """Return a row's module after so many passes over the texts."""
    with tempfile.TemporaryDirectory() as folder:
        write_small(Path(folder), train, seed, reading)
        module = zoo.HdLM(
            backbone=zoo.Backbone(folder),
            optimizer=zoo.Optimizer(lr=lr, beta2=0.99),
            weights=WEIGHTS,
            max_length=reading.window,
            max_new_tokens=reading.name_tokens,
            **settings(row, folder),
        )
        levels = 2 if module.separate else 1  # two calls are two examples of a text
        data = GivenRecords(
            [in_words(record) for record in train], batch_size=reading.texts * levels, seed=seed
        )
        quiet_trainer(max_epochs=epochs, callbacks=[curve]).fit(module, data)
        module.configure_model()
    return module.to(DEVICE).eval()


def in_words(record: LabelPath) -> Triple:
    """Return a labelled text whose classes are written as their names, not as list numbers."""
    domain, intent = record.labels
    return Triple(record.text, domain, intent, system=SYSTEM, id=record.id)


def write_small(folder: Path, train: Sequence[LabelPath], seed: int, reading: Reading) -> None:
    """Write the tokenizer of the texts, and random weights that only the seed decides."""
    names = [name for below in train[0].taxonomy.children.values() for name in below]
    roles = [SYSTEM, "system", "user", "thought", "assistant"]
    texts = [*(record.text for record in train), *names * 20, *roles * 100]
    lightning.seed_everything(seed, verbose=False)
    sizes = {"width": WIDTH, "inner": INNER, "window": reading.window}
    words = bpe_tokenizer(texts, reading.vocabulary)
    write_llama(folder, words, **sizes, seed=seed, deviation=DEVIATION)


def decoded(module: zoo.HdLM, records: Sequence[LabelPath]) -> list[list[str]]:
    """Return the path decoded for each record; what is no class of its level is `FAILED`."""
    taxonomy = records[0].taxonomy
    plans = [plan for record in records for plan in module.encoder().plans(in_words(record))]
    order = sorted(range(len(plans)), key=lambda i: len(records[i].text))
    paths: list[list[str]] = [[] for _ in plans]
    for start in range(0, len(order), 100):
        part = order[start : start + 100]
        for i, path in zip(part, module.generate([plans[i] for i in part]), strict=True):
            paths[i] = known_names(path, taxonomy)
    return paths


def known_names(path: Sequence[str], taxonomy: Taxonomy) -> list[str]:
    """Return a path with `FAILED` for what is no domain, and no intent of any domain."""
    domains = taxonomy.below(())
    intents = {name for domain in domains for name in taxonomy.below((domain,))}
    levels = zip(path, (domains, intents), strict=True)
    return [name if name in names else FAILED for name, names in levels]


def stream_below_head(module: zoo.HdLM, record: LabelPath) -> float:
    """Return the size of the residual stream before the last block, where HdLM's head is."""
    (example,) = module.encoder()(in_words(record))[-1:]
    return stream_size(module.lm, num_blocks(module.lm) - 1, example.input_ids)


def scores(paths: Sequence[Sequence[str]], records: Sequence[LabelPath]) -> dict[str, float]:
    """Return the scores of decoded paths, four digits after the point."""
    found = path_scores(paths, [record.labels for record in records])
    return {name: round(value, 4) for name, value in found.items()}


def thinned(losses: Sequence[Sequence[float]], parts: int) -> list[list[float]]:
    """Return the mean of both losses and the gradient's norm in so many equal parts of a run."""
    cuts = [len(losses) * i // parts for i in range(parts + 1)]
    spans = [losses[a:b] for a, b in zip(cuts, cuts[1:], strict=False) if b > a]
    return [[round(statistics.mean(c), 3) for c in zip(*span, strict=True)] for span in spans]


def table(entries: Sequence[Entry]) -> list[str]:
    """Return Markdown: means over seeds, a line for each learning rate and number of epochs."""
    lines = []
    for _, mine in trials.by_row(entries, ROWS):
        for epochs, lr in sorted({(entry["epochs"], entry["lr"]) for entry in mine}):
            lines.append(cells(trials.of_row(mine, lr=lr, epochs=epochs)))
    return trials.markdown(TITLES, lines)


def cells(entries: Sequence[Entry]) -> list[str]:
    """Return a line of the table; joint accuracy with half its 95 % t interval over seeds."""
    joint, *others = trials.percent(*(trials.mean_metric(entries, score) for score in SHOWN))
    if len(entries) > 1:
        margin = trials.seed_margin([100 * e["metrics"]["joint_accuracy"] for e in entries])
        joint += f" +-{margin:.1f}"
    recalled = statistics.mean(entry["metrics_train"]["joint_accuracy"] for entry in entries)
    tokens = statistics.mean(entry["tokens"] for entry in entries)
    seconds = statistics.mean(entry["seconds"]["train"] for entry in entries)
    return [
        *(str(entries[0]["row"]), str(len(entries)), str(entries[0]["epochs"])),
        *(f"{entries[0]['lr']:g}", joint, *others),
        *trials.percent(recalled),
        *(f"{tokens:.0f}", f"{seconds:.0f}"),
    ]


if __name__ == "__main__":
    main()
