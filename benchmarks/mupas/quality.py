"""MuPaS, its strategies, its baselines and rules on MELD and EmoryNLP: one JSON entry per run.

    python -m benchmarks.mupas --json benchmarks/results/mupas.json

Next speakers: accuracy and mean reciprocal rank on all scenes and on those in which three people
speak. Words: perplexity of all turns, their speakers given, and nats per token of who says least
and most; B-2, R-L and distinct-2 of the last turn of the first `--replies` scenes. `prompted` is
the backbone without training, `rule: ...` has no model. Pairwise SFT makes an example for each
speaker of a scene, so it takes as many times the steps, to pass the data as often. Differences from
MuPaS are paired by seed and scene, with their 95 % bootstrap interval over scenes.

`--backbone small` is a Llama of four blocks from scratch, whose BPE tokenizer has seen the texts of
the training split: numbers for 2 million weights, in minutes. Needs `ZOO_DATA`; one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch

import datamodules
import zoo
from benchmarks import trials
from benchmarks.mupas import over_seeds, scores
from benchmarks.small_models import bpe_tokenizer, write_llama
from benchmarks.training import DEVICE, quiet_trainer
from zoo.methods.mupas.speaker_rules import RULES
from zoo.records import Scene

TOKEN_MEAN = "token-mean SFT"
TRAINED: dict[str, dict[str, Any]] = {
    "MuPaS": {},
    TOKEN_MEAN: {"objective": "token_mean"},
    "single-role SFT": {"objective": "single_role"},
    "pairwise SFT": {"objective": "pairwise"},
    "MuPaS, speak or silence": {"strategy": "speak_or_silence"},
    "MuPaS, lambda = 0.1": {"speaker_weight": 0.1},
    "MuPaS, lambda = 0": {"speaker_weight": 0.0},
}
RULE = "rule: "
ROWS = ("prompted", *(RULE + name for name in RULES), *TRAINED)
DATASETS = {"meld": datamodules.MELD, "emorynlp": datamodules.EmoryNLP}
SPEAKERS = ("speaker_accuracy", "speaker_mrr", "speaker_accuracy_3plus", "speaker_mrr_3plus")
WORDS = ("perplexity", "words_least", "words_most", "bleu_2", "rouge_l", "distinct_2")
PAIRED = (*SPEAKERS, "words", "words_least", "words_most")
SMALL = (160, 432)  # width, inner width
VOCABULARY = 4096
WINDOW = 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the tables."""
    parser = trials.make_parser(__doc__, rows=ROWS, seeds=[0, 1, 2])
    parser.add_argument("--data", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--steps", type=int, default=240, help="of eight scenes; pairwise: more")
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--scenes", type=int, default=None, help="test scenes; all by default")
    parser.add_argument("--replies", type=int, default=64, help="scenes that get a last turn")
    parser.add_argument("--backbone", default="smollm2-135m", help="or `small`")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "data", "row", "seed")
    if not options.table:
        torch.set_num_threads(1)
        finished.run(jobs(options), partial(run_row, options=options))
    print("\n".join(line for name in DATASETS for line in table(finished.entries, name)))


def jobs(options: argparse.Namespace) -> list[trials.Job]:
    """Return dataset, row and seed, a seed of every dataset before the next seed."""
    return [
        (data, row, seed) for seed in options.seeds for data in options.data for row in options.rows
    ]


def run_row(data: str, row: str, seed: int, options: argparse.Namespace) -> trials.Entry:
    """Train and test one row; return its entry. What draws nothing is the same for each seed."""
    lightning.seed_everything(seed, verbose=False)
    records = DATASETS[data](
        trials.data_path(data),
        batch_size=8,
        max_test=options.scenes,
        too_long="drop",
        seed=seed,
    )
    scenes: list[Any] = records.records("test")
    start = time.time()
    if row.startswith(RULE):
        found, steps = scores.of_rule(scenes, RULES[row.removeprefix(RULE)]), 0
    else:
        settings = TRAINED.get(row, {})
        steps = steps_of(settings, options.steps, records.records("train")) * (row in TRAINED)
        module = trained(records, steps, options, settings)
        found = tested(module, scenes, options.replies)
    return {
        "data": data,
        "row": row,
        "seed": seed,
        "steps": steps,
        "lr": options.lr,
        "backbone": options.backbone,
        "test_scenes": len(scenes),
        "seconds": round(time.time() - start),
        **{
            key: {name: rounded(value) for name, value in found[key].items()}
            for key in ("metrics", "items", "sizes")
        },
    }


def rounded(value: Any) -> Any:
    """Return a number, or numbers by name, with four digits after the point."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return round(value, 4)


def steps_of(settings: dict[str, Any], steps: int, scenes: Sequence[Any]) -> int:
    """Return the steps of eight examples in which a row passes the scenes as often as MuPaS.

    Args:
        settings: Of the row.
        steps: Of MuPaS, which makes an example of a scene.
        scenes: Training scenes.
    """
    if settings.get("objective") != "pairwise":
        return steps
    views = statistics.mean(len(scene.speakers) for scene in scenes)
    return round(steps * views)


def trained(records: Any, steps: int, options: argparse.Namespace, settings: Any) -> zoo.MuPaS:
    """Return a module after so many steps; none leaves the backbone as it is."""
    with tempfile.TemporaryDirectory() as folder:
        name = options.backbone
        if name == "small":
            name = folder
            write_small(Path(folder), records.records("train"))
        module = zoo.MuPaS(
            backbone={"name": name},
            optimizer={"lr": options.lr, "schedule": "cosine", "warmup_ratio": 0.03},
            max_length=WINDOW,
            max_answer_tokens=32,
            **settings,
        )
        if steps:
            quiet_trainer(max_steps=steps, max_epochs=-1).fit(module, records)
        module.configure_model()
    return module.to(DEVICE).eval()


def write_small(folder: Path, scenes: Sequence[Scene]) -> None:
    """Write the small backbone, whose tokenizer is that of the scenes."""
    texts = [turn.text for scene in scenes for turn in scene.turns]
    names = [scene.setting + "\n" + "\n".join(scene.names) for scene in scenes]
    write_llama(folder, bpe_tokenizer([*texts, *names], VOCABULARY), *SMALL, window=WINDOW)


def tested(module: zoo.MuPaS, scenes: Sequence[Scene], replies: int) -> scores.Scores:
    """Return scores of all scenes; those of replies are of the first ones."""
    found = scores.of_readings(scenes, module.read_all(scenes))
    asked = scenes[:replies]
    said = [reply for i in range(0, len(asked), 8) for reply in module.generate(asked[i : i + 8])]
    found["metrics"] |= scores.of_replies(asked, said)
    return found


def table(entries: Sequence[trials.Entry], data: str) -> list[str]:
    """Return Markdown tables: speakers, words, and paired differences from MuPaS."""
    entries = trials.of_row(entries, data=data)
    if not entries:
        return []
    mine = trials.by_row(entries, ROWS)
    ours = {entry["seed"]: entry for entry in trials.of_row(entries, row="MuPaS")}
    return [
        *("", f"{data}, {entries[0]['test_scenes']} test scenes: next speakers", ""),
        *_means(mine, SPEAKERS, "speaker_accuracy"),
        *("", f"{data}: words", ""),
        *_means(mine, WORDS, "perplexity"),
        *("", f"{data}: MuPaS minus the row (95 % bootstrap interval over scenes)", ""),
        *trials.markdown(
            ["row", "seeds", *PAIRED],
            [[row, *_paired(ours, theirs)] for row, theirs in mine if row != "MuPaS" and ours],
        ),
        *_over_seeds(list(ours.values()), mine, data),
    ]


def _over_seeds(
    ours: Sequence[trials.Entry], rows: Sequence[tuple[str, list[trials.Entry]]], data: str
) -> list[str]:
    """Return the tables of `over_seeds` that the entries are enough for."""
    others = [(row, theirs) for row, theirs in rows if row != "MuPaS"]
    token_mean = dict(rows).get(TOKEN_MEAN)
    lines = over_seeds.by_seed(ours, others)
    if lines:
        lines = ["", f"{data}: MuPaS minus the row, by seed (95 % t interval)", "", *lines]
    if token_mean and (thirds := over_seeds.least(ours, token_mean)):
        title = f"{data}: nats per token of who says least, MuPaS minus {TOKEN_MEAN}"
        lines += ["", title, "", *thirds]
    return lines


def _means(
    rows: Sequence[tuple[str, list[trials.Entry]]], names: Sequence[str], first: str
) -> list[str]:
    """Return a table of means over seeds of the rows that have the first score."""
    cells = [
        [
            row,
            str(len(entries)),
            *(_mean([e["metrics"].get(name) for e in entries]) for name in names),
        ]
        for row, entries in rows
        if first in entries[0]["metrics"]
    ]
    return trials.markdown(["row", "seeds", *names], cells)


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.3f}" if known else "-"


def _paired(ours: dict[int, trials.Entry], theirs: Sequence[trials.Entry]) -> list[str]:
    """Return shared seeds, and each difference with its interval; `-` without the score."""
    both = [(ours[entry["seed"]], entry) for entry in theirs if entry["seed"] in ours]
    cells = [str(len(both))]
    for name in PAIRED:
        if not both or name not in both[0][1]["items"] or name not in both[0][0]["items"]:
            cells.append("-")
            continue
        pairs = [(a["items"][name], b["items"][name]) for a, b in both]
        middle, low, high = scores.difference(pairs, both[0][0]["sizes"][name])
        cells.append(f"{middle:+.3f} ({low:+.3f} to {high:+.3f})")
    return cells


if __name__ == "__main__":
    main()
