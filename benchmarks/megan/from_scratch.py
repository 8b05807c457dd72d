"""MeGan on a small Llama from scratch, and tasks that training never saw: one JSON entry per run.

    python -m benchmarks.megan.from_scratch --json benchmarks/results/megan-small.json
    python -m benchmarks.megan.from_scratch --split val --seeds 100 --rates 1e-2 3e-2 \
        --json benchmarks/results/megan-small-rates.json

Two settings over the queries of ten intents of CLINC150, one of each domain:

- `steered`: a query is asked for its domain or its intent and the condition is one of nine wordings
  of each question (`TaskViews`). What is not told the condition cannot be right more often than in
  half of the answers. Two models are frozen and steered by their gates. One was told the condition
  in its prompts (`told`); now its prompt asks both questions (`neutral.py`). The other never was
  told (`untold`); its prompt is the query alone.
- `composed`: 16 tasks, a name of the query in a form of the answer (`composed.py`), four of them
  held out, others for each seed. Rows that are told in both places are also asked with the
  condition of another record in the gates (`other gates`).

A row's condition stands in the gates (the hypernetwork reads it), in the prompt (the system turn
is the condition), in both or nowhere. Rows "on told" and "on untold" train what bends the gates, or
adapters, and nothing else, over the weights of the row "full SFT, condition in the prompt" or "full
SFT, no condition". The rows "a beta for each question" need no hypernetwork (`question_betas.py`).

The second command tries learning rates, on validation queries and a seed that the first one does
not use. Needs `ZOO_DATA`; one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch

import zoo
from benchmarks import trials
from benchmarks.megan.neutral import neutral_prompt
from benchmarks.megan.question_betas import QuestionBetas, UnboundedBetas, by_question
from benchmarks.megan.settings import UNTOLD, Records, make_data, placed
from benchmarks.small_models import bpe_tokenizer, write_llama
from benchmarks.training import DEVICE, GivenRecords, quiet_trainer
from datamodules.conditioned_chat import shuffled_conditions
from zoo.export import save
from zoo.metrics.answers import exact

HYPER: dict[str, Any] = {"hyper": {"bottleneck": 32}, "lr": 3e-3}
WIDE: dict[str, Any] = {"hyper": {"bottleneck": 0}, "lr": 3e-3}
FULL: dict[str, Any] = {"train": "full", "lr": 4e-3}
PLAIN: dict[str, Any] = {"gate": "none", **FULL}
ADAPTER = {"rank": 14, "alpha": 28.0, "targets": ["q_proj", "v_proj"]}
BETAS: dict[str, Any] = {"gate": "static", "lr": 1e-1, "padding_free": False}
BASES = {"told": "full SFT, condition in the prompt", "untold": "full SFT, no condition"}
TOLD, NEVER = {"after": "told"}, {"after": "untold"}
STEPS = {"steered": 300, "composed": 600}
MORE = 200  # of rows over a frozen model
ROWS: dict[str, dict[str, dict[str, Any]]] = {
    "steered": {
        BASES["told"]: {"place": "prompt", **PLAIN},
        "MeGan, R = 32, on told": {**HYPER, **TOLD},
        "MeGan, R = 0, on told": {**WIDE, **TOLD},
        "shuffled condition, R = 32, on told": {**HYPER, **TOLD, "shuffle": True},
        "LoRA of equal size, no condition, on told": {
            **TOLD,
            "place": "none",
            "gate": "none",
            "lora": ADAPTER,
            "lr": 3e-3,
        },
        "a beta for each question, on told": {**BETAS, **TOLD, "kind": QuestionBetas},
        BASES["untold"]: {"place": "none", **PLAIN},
        "MeGan, R = 32, on untold": {**HYPER, **NEVER},
        "a beta for each question, on untold": {**BETAS, **NEVER, "kind": QuestionBetas},
        "the same without the range, on untold": {
            **BETAS,
            **NEVER,
            "kind": UnboundedBetas,
        },
    },
    "composed": {
        "full SFT, condition in the prompt": {"place": "prompt", **PLAIN},
        "MeGan, all weights, condition in both": {"place": "both", **HYPER, **FULL},
        "MeGan, all weights": {**HYPER, **FULL},
    },
}
SMALL = (96, 256)  # width, inner width
VOCABULARY = 1536
WINDOW = 256
BATCH = 16
HEADERS = ["system", "user", "assistant", UNTOLD]
TRAIN_TEXTS = 200  # training records that are answered too
GROUPS = ("train", "seen", "unseen", "unseen_task")
OPTIMIZER = {"schedule": "linear", "warmup_ratio": 0.1, "beta2": 0.99, "weight_decay": 0.0}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the tables."""
    rows = dict.fromkeys(row for rows in ROWS.values() for row in rows)
    parser = trials.make_parser(__doc__, rows=rows, seeds=range(8))
    parser.add_argument("--settings", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rates", type=float, nargs="+", help="instead of each row's own")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="what is answered")
    parser.add_argument("--texts", type=int, default=300, help="queries that are answered")
    parser.add_argument("--folder", type=Path, default=Path("runs/megan_small"), help="for weights")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "setting", "row", "seed", "lr")
    if not options.table:
        torch.set_num_threads(1)
        finished.run(jobs(options), partial(run_row, options=options))
    print("\n".join(line for setting in ROWS for line in table(finished.entries, setting)))


def jobs(options: argparse.Namespace) -> list[trials.Job]:
    """Return setting, row, seed and learning rate, all rows of a seed before the next seed."""
    return [
        (setting, row, seed, lr)
        for seed in options.seeds
        for setting in options.settings
        for row, changes in ROWS[setting].items()
        if row in options.rows
        for lr in options.rates or [changes["lr"]]
    ]


def run_row(
    setting: str, row: str, seed: int, lr: float, options: argparse.Namespace
) -> trials.Entry:
    """Train and test one row; return its entry."""
    changes = {"place": "gates", **ROWS[setting][row], "lr": lr}
    data = make_data(setting, seed, BATCH * STEPS[setting], options.split, options.texts)
    data = (by_question(data[0]), by_question(data[1])) if "kind" in changes else data
    start = time.process_time()
    folder = options.folder / f"{setting}-{seed}"
    module = trained(data[0], changes, setting, seed, folder)
    seconds = time.process_time() - start
    untold = untold_of(folder / changes.get("after", "random"))
    items = answered(module, data, changes["place"], untold)
    if changes["place"] == "both":
        others = answered(module, data, "both", shuffle=True)
        items |= {f"{group}, other gates": hits for group, hits in others.items()}
    if row == BASES["told"] and setting == "steered":
        keep(module, data[0], folder / "told")
        others = answered(module, data, "none", untold_of(folder / "told"))
        items |= {f"{group}, not told": hits for group, hits in others.items()}
    return {
        "setting": setting,
        "row": row,
        "seed": seed,
        "lr": lr,
        "steps": steps_of(setting, changes),
        "split": options.split,
        "trainable": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "train_loss": round(float(module.trainer.callback_metrics["train/reply_loss"]), 4),
        "processor_seconds": round(seconds),
        "untold": untold,
        "metrics": {group: round(statistics.mean(hits), 4) for group, hits in items.items()},
        "items": {group: hits for group, hits in items.items() if group in GROUPS[1:]},
    }


def steps_of(setting: str, changes: Mapping[str, Any]) -> int:
    """Return the steps of a row, of `BATCH` records each."""
    return MORE if "after" in changes else STEPS[setting]


def trained(
    records: Records, changes: dict[str, Any], setting: str, seed: int, folder: Path
) -> Any:
    """Return a row's module after training; weights that rows share are in the folder.

    Args:
        records: What is trained on, in order.
        changes: The row's settings.
        setting: Says how many steps, of `BATCH` records each.
        seed: Of weights and order.
        folder: Holds, or gets, the random backbone and the models that are frozen.
    """
    steps, changes = steps_of(setting, changes), dict(changes)
    after, place = changes.pop("after", "random"), changes.pop("place")
    kind, shuffle = changes.pop("kind", zoo.MeGan), changes.pop("shuffle", False)
    if after == "random" and not (folder / after).exists():
        write_small(folder / after, records, seed)
    elif not (folder / after).exists():
        base = ROWS[setting][BASES[after]]
        keep(trained(records, base, setting, seed, folder), records, folder / after)
    lightning.seed_everything(seed, verbose=False)
    module = kind(
        backbone={"name": str(folder / after), "lora": changes.pop("lora", None)},
        optimizer={**OPTIMIZER, "lr": changes.pop("lr")},
        max_length=WINDOW,
        max_answer_tokens=8,
        max_generated=None,
        **changes,
    )
    records = placed(records[: steps * BATCH], place, untold_of(folder / after))
    records = shuffled_conditions(records, seed) if shuffle else records
    loader = GivenRecords(records, batch_size=BATCH, seed=seed)
    quiet_trainer(max_steps=steps, max_epochs=-1).fit(module, loader)
    return module.to(DEVICE).eval()


def keep(module: Any, records: Records, folder: Path) -> None:
    """Write a model that others start from, and the prompt that does not tell it its question."""
    if not folder.exists():
        save(module, folder)
        untold = neutral_prompt(module, records) if folder.name == "told" else UNTOLD
        (folder / "untold.txt").write_text(untold, "utf-8")


def untold_of(folder: Path) -> str:
    """Return the system turn without a condition for a model."""
    path = folder / "untold.txt"
    return path.read_text("utf-8") if path.exists() else UNTOLD


def write_small(folder: Path, records: Records, seed: int) -> None:
    """Write the random backbone of a seed, whose tokenizer has seen the training records.

    The hypernetwork takes over its standard deviation, 1 / sqrt(width): from the library's 0.02 a
    model of width 128 had not found the condition after 200 steps.
    """
    texts = [text for each in records for text in (each.prompt, each.response, each.condition)]
    words = bpe_tokenizer([*texts, *HEADERS * 200], VOCABULARY)
    write_llama(folder, words, *SMALL, window=WINDOW, seed=seed, deviation=SMALL[0] ** -0.5)


def answered(
    module: Any,
    data: tuple[Records, Records],
    place: str,
    untold: str = UNTOLD,
    *,
    shuffle: bool = False,
) -> dict[str, list[float]]:
    """Return the share of right answers to each query, by group, queries in one order.

    Args:
        module: A trained module.
        data: See `make_data`.
        place: Where the condition stands; see `placed`.
        untold: The system turn where the prompt has no condition.
        shuffle: Give the gates, and not the prompt, the condition of another record.
    """
    asked = [replace(record, group="train") for record in data[0][:TRAIN_TEXTS]] + data[1]
    right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    told = placed(asked, place, untold)
    told = shuffled_conditions(told, 0) if shuffle else told
    for first in range(0, len(asked), 200):
        part = slice(first, first + 200)
        for record, answer in zip(asked[part], module.generate(told[part]), strict=True):
            hit = exact(answer.answer, record.response)
            right[record.group][record.prompt].append(hit)
    return {
        group: [round(statistics.mean(hits), 2) for hits in by_query.values()]
        for group, by_query in right.items()
    }


def table(entries: Sequence[trials.Entry], setting: str) -> list[str]:
    """Return a Markdown table: percent right by group, mean over seeds with its 95 % t interval."""
    entries = trials.of_row(entries, setting=setting)
    groups = [group for group in GROUPS if entries and group in entries[0]["metrics"]]
    rates = sorted({(entry["row"], entry["lr"]) for entry in entries})
    rows = []
    for row in ROWS[setting]:
        for lr in [lr for name, lr in rates if name == row]:
            mine = trials.of_row(entries, row=row, lr=lr)
            cells = [row, f"{mine[0]['trainable']:,}", f"{lr:g}", str(mine[0]["steps"])]
            for group in groups:
                shares = [100 * entry["metrics"][group] for entry in mine]
                cells.append(f"{statistics.mean(shares):.1f} +-{trials.seed_margin(shares):.1f}")
            rows.append([*cells, str(len(mine))])
    titles = ["row", "trained", "lr", "steps", *(g.replace("_", " ") for g in groups), "seeds"]
    return ["", setting, "", *trials.markdown(titles, rows)] if rows else []


if __name__ == "__main__":
    main()
