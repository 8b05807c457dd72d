"""Subtitles zh-en: SFT against outcome DPO, segment DPO and ALPO, one JSON entry per run.

    python -m benchmarks.alpo --json benchmarks/results/alpo.json --backbone MODEL

For each seed: a translator learns from 80 % of the training blocks; candidates of the other blocks
are sampled and scored; each row starts from the translator and learns from the same candidates with
the same number of steps; all translate the same test blocks. Every stage is kept in `--folder` and
gone on with.

`zero-shot` is the backbone as it is. `--lora` trains adapters on the layers that it names, and
`--dtype bfloat16` holds frozen weights in half precision; rows after SFT are tested with their
adapters beside the weights, since a small update is lost where it is rounded into them.

Scores: chrF and BLEU over all lines, blocks whose lines are whole at the first, greedy attempt, the
mean over lines of chrF and of the reference-based score that candidates get, and with `--judge` the
expected grade of a line by likelihood: by the training rubric, and by the three of the evaluation
(accuracy, naturalness, vividness), where the paper has three judges of blocks of 25 lines.
Differences to SFT are paired over test blocks, seeds averaged, with 95 % bootstrap intervals.
`--overfit N` trains on N blocks and tests on the same. `--greedy` scores that attempt, and only
lines that are not whole are written anew, in pieces; without it lines are sampled. The data are
TVsub of `ZOO_DATA`, or `--data`, a folder for `datamodules.Subtitles`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning

from benchmarks import trials
from benchmarks.alpo.scores import (
    Lines,
    corpus_scores,
    difference,
    line_chrf,
    line_reference,
    of_lines,
)
from benchmarks.alpo.stages import ROWS, judge_model, subtitles, trained_model
from zoo.methods.alpo.__main__ import device, local_judge
from zoo.methods.alpo.figures import Margins
from zoo.methods.alpo.rubric import ACCURACY, NATURALNESS, RUBRIC, VIVIDNESS
from zoo.methods.alpo.scoring import ChoiceScorer
from zoo.methods.alpo.translate import Translating, translate
from zoo.methods.alpo.writing import Nucleus
from zoo.records import SubtitleBlock

RUBRICS = {
    "judge": RUBRIC,
    "accuracy": ACCURACY,
    "naturalness": NATURALNESS,
    "vividness": VIVIDNESS,
}
"""Of training, and the three of the evaluation, by the names of the table's columns."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the table."""
    parser = trials.make_parser(__doc__, rows=ROWS)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--judge", help="scores the translations by likelihood; none leaves it out")
    parser.add_argument("--scoring", choices=("reference", "choice"), default="reference")
    parser.add_argument("--sft_steps", type=int, default=300, help="of eight blocks")
    parser.add_argument("--steps", type=int, default=100, help="after SFT")
    parser.add_argument("--step_blocks", type=int, default=8, help="blocks of a step after SFT")
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
    parser.add_argument("--lora", help="linear layers with adapters; none trains all weights")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--greedy", action="store_true", help="score greedy translations")
    parser.add_argument("--max_new_tokens", type=int, default=1300, help="of a translated block")
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
    model = trained_model(row, seed, options)
    trained = time.time()
    model.to(device()).eval()
    blocks = test_blocks(options)
    lightning.seed_everything(seed, verbose=False)
    found, valid, counts = translated(model, blocks, options)
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
            "valid": valid / len(blocks),
            **corpus_scores(blocks, found),
            **{name: statistics.mean(scores) for name, scores in of_block.items()},
        },
        "of_block": of_block,
        "rewards": rewards(model.recent),
        "lines": found,
    }


def translated(
    model: Any, blocks: Sequence[SubtitleBlock], options: argparse.Namespace
) -> tuple[list[Lines], int, Counter[str]]:
    """Return the lines of each block, how many blocks are whole when written greedily, counts."""
    counts = Counter[str]()
    limit = options.max_new_tokens
    if options.greedy:
        how = Translating(Nucleus(temperature=0), retries=0, max_new_tokens=limit)
        return translate(model, blocks, how, counts), counts["at once"], counts
    greedy = [lines for group in groups(blocks) for lines in model.generate(group)]
    found = translate(model, blocks, Translating(max_new_tokens=limit), counts)
    return found, sum(lines is not None for lines in greedy), counts


def rewards(steps: Sequence[Margins]) -> dict[str, list[float]]:
    """Return the mean reward margin and the share of pairs above 0 of the last training passes."""
    margins = [(step.chosen - step.rejected).float() for step in steps if len(step.weights)]
    return {
        "margin": [round(float(each.mean()), 4) for each in margins],
        "accuracy": [round(float((each > 0).float().mean()), 3) for each in margins],
    }


def test_blocks(options: argparse.Namespace) -> list[Any]:
    """Return what is translated."""
    if options.overfit is None:
        return subtitles(options).records("test")
    return subtitles(options, part="sft", max_train=options.overfit).records("train")


def groups(blocks: Sequence[SubtitleBlock], size: int = 16) -> list[Sequence[SubtitleBlock]]:
    """Return blocks in groups that are translated at once."""
    return [blocks[i : i + size] for i in range(0, len(blocks), size)]


def judged(
    blocks: Sequence[SubtitleBlock], found: Sequence[Lines], options: argparse.Namespace
) -> dict[str, list[float]]:
    """Return the mean grade of the lines of each block by each rubric; nothing without a judge."""
    if options.judge is None:
        return {}
    judge = local_judge(judge_model(options.judge), 0.0, 4096, "--judge")
    grades: dict[str, list[float]] = {}
    for name, rubric in RUBRICS.items():
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
            ours = block_means([entry["of_block"][kind] for entry, _ in both])
            theirs = block_means([entry["of_block"][kind] for _, entry in both])
            if row == "SFT" or not ours:
                cells.append("-")
                continue
            middle, low, high = difference(ours, theirs)
            cells.append(f"{middle:+.2f} ({low:+.2f} to {high:+.2f})")
        rows.append(cells)
    return trials.markdown(titles, rows)


def block_means(scores: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean over seeds for each block; nothing without seeds."""
    return [statistics.mean(of_seeds) for of_seeds in zip(*scores, strict=True)]
