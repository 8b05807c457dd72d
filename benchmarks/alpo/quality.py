"""Subtitles zh-en: SFT against outcome DPO, segment DPO and ALPO, one JSON entry per run.

    python -m benchmarks.alpo --json benchmarks/results/alpo.json --backbone MODEL

For each seed: a translator learns from 80 % of the training blocks; candidates of the other blocks
are sampled and scored; each row starts from the translator and learns from the same candidates with
the same number of steps; all translate the same test blocks. Every stage is kept in `--folder` and
gone on with.

Scores: chrF and BLEU over all lines, blocks whose lines are whole at the first, greedy attempt, the
mean over lines of chrF and of the reference-based score that candidates get, and with `--judge` the
expected grade by likelihood, by the training rubric and of vividness alone. Differences to SFT are
paired over test blocks, with 95 % bootstrap intervals. `--overfit N` trains on N blocks and tests
on the same. The data are TVsub of `ZOO_DATA`, or `--data`, a folder for `datamodules.Subtitles`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning

import datamodules
import zoo
from benchmarks import trials
from benchmarks.alpo.scores import (
    Lines,
    corpus_scores,
    difference,
    line_chrf,
    line_reference,
    of_lines,
)
from benchmarks.training import quiet_trainer
from zoo.methods.alpo.__main__ import SCORING, device, local_judge, sample
from zoo.methods.alpo.candidates import Sampling
from zoo.methods.alpo.rubric import RUBRIC, VIVIDNESS
from zoo.methods.alpo.scoring import ChoiceScorer
from zoo.methods.alpo.translate import Translating, translate
from zoo.records import ScoredBlock, SubtitleBlock

ROWS: dict[str, dict[str, Any]] = {
    "SFT": {"objective": "sft"},
    "outcome DPO": {"objective": "outcome_dpo"},
    "outcome DPO, best and worst": {"objective": "outcome_dpo", "candidates": 7},
    "segment DPO": {"objective": "segment_dpo"},
    "ALPO": {"objective": "alpo", "min_beta": 0.05},
}


class Candidates(datamodules.ScoredBlocks):
    """Scored blocks of which the first candidates are kept.

    Args:
        path: The file.
        candidates: How many; None for all. Below 8, outcome DPO takes the best and the worst.
        loader: See `ZooDataModule`.
    """

    def __init__(self, path: str, candidates: int | None = None, **loader: Any) -> None:
        super().__init__(path, val=path, **loader)
        self.candidates = candidates

    def load(self, split: str) -> list[Any]:
        """Return the blocks."""
        blocks: list[Any] = list(super().load(split))
        return [first_candidates(block, self.candidates) for block in blocks]


def first_candidates(block: ScoredBlock, count: int | None) -> ScoredBlock:
    """Return a block with the first candidates of its segments."""
    segments = tuple(
        replace(
            segment,
            candidates=segment.candidates[:count],
            scores=segment.scores and segment.scores[:count],
        )
        for segment in block.segments
    )
    return replace(block, segments=segments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the table."""
    parser = trials.make_parser(__doc__, rows=ROWS)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--judge", help="scores the translations by likelihood; none leaves it out")
    parser.add_argument("--scoring", choices=("reference", "choice"), default="reference")
    parser.add_argument("--sft_steps", type=int, default=300, help="of eight blocks")
    parser.add_argument("--steps", type=int, default=100, help="of eight blocks, after SFT")
    parser.add_argument("--blocks", type=int, default=300, help="with candidates")
    parser.add_argument("--k", type=int, default=8, help="samples of a segment")
    parser.add_argument("--tests", type=int, default=None, help="test blocks")
    parser.add_argument("--data", help="folder of subtitles instead of TVsub")
    parser.add_argument("--preferences", help="folder to prefer on, instead of 20 % of the blocks")
    parser.add_argument("--core", type=int, default=25, help="lines of a block")
    parser.add_argument("--context", type=int, default=5, help="lines before and after it")
    parser.add_argument("--batch_size", type=int, default=2, help="blocks of a pass, SFT")
    parser.add_argument("--overfit", type=int, help="blocks to train on and to test on")
    parser.add_argument("--sft_lr", type=float, default=5e-5)
    parser.add_argument("--lr", type=float, default=5e-6, help="after SFT")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--folder", type=Path, default=Path("runs/alpo"), help="of all stages")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "row", "seed")
    jobs = [(row, seed) for seed in options.seeds for row in ROWS if row in options.rows]
    if not options.table:
        finished.run(jobs, partial(run_row, options=options))
    print("\n".join(table(finished.entries)))


def run_row(row: str, seed: int, options: argparse.Namespace) -> trials.Entry:
    """Train and test one row; return its entry."""
    start = time.time()
    model = translator(seed, options)
    if row != "SFT":
        model = preferred(row, seed, options)
    trained = time.time()
    model.to(device()).eval()
    blocks = test_blocks(options)
    counts = Counter[str]()
    greedy = [lines for group in groups(blocks) for lines in model.generate(group)]
    lightning.seed_everything(seed, verbose=False)
    found = translate(model, blocks, Translating(), counts)
    of_block = {
        "line_chrf": of_lines(blocks, found, line_chrf),
        "reference": of_lines(blocks, found, line_reference),
        **judged(blocks, found, options),
    }
    return {
        "row": row,
        "seed": seed,
        "settings": {name: str(value) for name, value in sorted(vars(options).items())},
        "seconds": {"train": round(trained - start), "test": round(time.time() - trained)},
        "counts": dict(counts),
        "metrics": {
            "valid": sum(lines is not None for lines in greedy) / len(blocks),
            **corpus_scores(blocks, found),
            **{name: statistics.mean(scores) for name, scores in of_block.items()},
        },
        "of_block": of_block,
    }


def test_blocks(options: argparse.Namespace) -> list[Any]:
    """Return what is translated."""
    if options.overfit is None:
        return subtitles(options).records("test")
    return subtitles(options, part="sft", max_train=options.overfit).records("train")


def translator(seed: int, options: argparse.Namespace) -> Any:
    """Return the translator of a seed: learned now, or loaded."""
    folder = options.folder / f"sft-{seed}"
    if not folder.exists():
        lightning.seed_everything(seed, verbose=False)
        optimizer = {"lr": options.sft_lr, "schedule": "cosine", "warmup_ratio": 0.1}
        model = zoo.ALPO(backbone={"name": options.backbone}, optimizer=optimizer)
        data = subtitles(options, part="sft", seed=seed, max_train=options.overfit)
        fit(model, data, options.sft_steps, options)
        zoo.save(model, folder)
    return zoo.load(folder)


def preferred(row: str, seed: int, options: argparse.Namespace) -> Any:
    """Return the translator of a seed after a row's preferences."""
    scored = options.folder / f"scored-{seed}.jsonl"
    data = subtitles(options, part="preference", max_train=options.blocks)
    if options.preferences is not None:
        data = subtitles(options, path=options.preferences, max_train=options.blocks)
    if options.overfit is not None:
        data = subtitles(options, part="sft", max_train=options.overfit)
    sampling = Sampling(k=options.k, seed=seed)
    scoring = replace(SCORING, kind=options.scoring, judge=backbone(options.judge))
    sample(str(options.folder / f"sft-{seed}"), data, str(scored), "train", sampling, scoring)
    changes = dict(ROWS[row])
    count = changes.pop("candidates", None)
    lightning.seed_everything(seed, verbose=False)
    optimizer = {"lr": options.lr, "schedule": "cosine", "warmup_ratio": 0.1}
    name = str(options.folder / f"sft-{seed}")
    model = zoo.ALPO(backbone={"name": name}, optimizer=optimizer, seed=seed, **changes)
    fit(model, Candidates(str(scored), count, batch_size=1, seed=seed), options.steps, options)
    return model


def fit(model: Any, data: Any, steps: int, options: argparse.Namespace) -> None:
    """Learn for a number of steps of eight blocks."""
    trainer = quiet_trainer(
        max_steps=steps,
        max_epochs=-1,
        accumulate_grad_batches=8 // data.batch_size,
        accelerator=options.accelerator,
    )
    trainer.fit(model, data)


def subtitles(options: argparse.Namespace, **given: Any) -> datamodules.Subtitles:
    """Return the subtitles; TVsub's English is without the marks of its tokenizer."""
    return datamodules.Subtitles(
        given.pop("path", None) or options.data or trials.data_path("tvsub"),
        moses=options.data is None,
        core=options.core,
        context=options.context,
        batch_size=options.batch_size,
        max_test=options.tests,
        **given,
    )


def backbone(name: str | None) -> zoo.Backbone | None:
    """Return a judge's model."""
    return None if name is None else zoo.Backbone(name=name)


def groups(blocks: Sequence[SubtitleBlock], size: int = 16) -> list[Sequence[SubtitleBlock]]:
    """Return blocks in groups that are translated at once."""
    return [blocks[i : i + size] for i in range(0, len(blocks), size)]


def judged(
    blocks: Sequence[SubtitleBlock], found: Sequence[Lines], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Return the mean grade of the lines of each block, by both rubrics; nothing without judge."""
    if options.judge is None:
        return {}
    judge = local_judge(backbone(options.judge), 0.0, 4096, "--judge")
    grades: dict[str, list[float]] = {}
    for name, rubric in (("judge", RUBRIC), ("vividness", VIVIDNESS)):
        scorer = ChoiceScorer(judge, rubric)
        grades[name] = []
        for block, lines in zip(blocks, found, strict=True):
            scores = [scorer(block, i, i + 1, [(line,)]) for i, line in enumerate(lines)]
            grades[name].append(round(statistics.mean(s[0] for s in scores if s), 3))
    return grades


def table(entries: Sequence[trials.Entry]) -> list[str]:
    """Return a Markdown table: scores, and differences to SFT of the same seeds."""
    kinds = list(dict.fromkeys(kind for entry in entries for kind in entry["of_block"]))
    titles = ["row", "seeds", "chrF", "BLEU", "valid (%)"]
    titles += [f"{kind} - SFT (95 % interval)" for kind in kinds]
    base = {entry["seed"]: entry for entry in trials.of_row(entries, row="SFT")}
    rows = []
    for row, mine in trials.by_row(entries, ROWS):
        cells = [row, str(len(mine))]
        cells += [f"{trials.mean_metric(mine, name):.1f}" for name in ("chrf", "bleu")]
        cells += trials.percent(trials.mean_metric(mine, "valid"))
        for kind in kinds:
            both = [(entry, base[entry["seed"]]) for entry in mine if entry["seed"] in base]
            ours = [x for entry, _ in both for x in entry["of_block"][kind]]
            theirs = [x for _, entry in both for x in entry["of_block"][kind]]
            if row == "SFT" or not ours:
                cells.append("-")
                continue
            middle, low, high = difference(ours, theirs)
            cells.append(f"{middle:+.2f} ({low:+.2f} to {high:+.2f})")
        rows.append(cells)
    return trials.markdown(titles, rows)
