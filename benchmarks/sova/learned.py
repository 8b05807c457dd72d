"""SoVA's baselines that are trained, SFT and SteerLM, on held-out dilemmas: one JSON entry per run.

    python -m benchmarks.sova.learned --model M --json FILE

Both learn the action that Maslow (growth) expects, in a random order of the actions, from the
decisive dilemmas of the training part (80 %) of `datamodules.DailyDilemmas`, by LoRA beside frozen
weights; SteerLM learns both actions, each under its grade. They decide the other 20 %, as `direct`
does without training. The learning rate was chosen on training dilemmas, so the validation part is
tested too. `linear probe` needs no agent and says how much there is to learn (`linear_probe.py`).
`--overfit N` learns N dilemmas and decides the same.

Needs `ZOO_DATA`; one thread. Choices and differences are those of `dilemma_table`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from functools import partial

import lightning
import torch

import datamodules
import zoo
from benchmarks import trials
from benchmarks.sova import linear_probe
from benchmarks.sova.dilemma_table import auroc, choices
from benchmarks.sova.dilemmas import items, model_name
from benchmarks.training import GivenRecords, Losses, quiet_trainer
from zoo.methods.sova.expected import Rule, expected_action
from zoo.methods.sova.metrics import ExpectedRatio, constant_choices
from zoo.methods.sova.sentence_encoder import SentenceEncoder
from zoo.ranking.metrics import bootstrap
from zoo.records import TO_DO, Dilemma

RULE: Rule = "maslow_growth"
PROBE = "linear probe"
AGENTS = {"direct": "direct", "SFT": "sft", "SteerLM": "steerlm"}
ROWS = ("direct", PROBE, "SFT", "SteerLM")
HELD_OUT = ("val", "test")
DECIDED = 16  # dilemmas at once
TITLES = ("row", "seeds", "n", "order 1", "order 2", "both", "both - direct", "AUROC")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the table."""
    parser = trials.make_parser(__doc__, rows=ROWS)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--lora", default=r".*_proj", help="linear layers with adapters")
    parser.add_argument("--steps", type=int, default=80, help="of eight dilemmas")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--overfit", type=int, help="dilemmas to learn and to decide")
    options = parser.parse_args(arguments)
    finished = trials.FinishedRows(options.json, "row", "seed", "model", "overfit")
    names = model_name(options.model), options.overfit
    jobs = [
        (row, seed, *names)
        for seed in options.seeds
        for row in options.rows
        if row not in ("direct", PROBE) or seed == options.seeds[0]  # they draw nothing
    ]
    if not options.table:
        torch.set_num_threads(1)
        finished.run(jobs, partial(run_row, options=options))
    print("\n".join(table(finished.entries, options.overfit)))


def run_row(
    row: str, seed: int, model: str, overfit: int | None, options: argparse.Namespace
) -> trials.Entry:
    """Train one row, decide; return its entry."""
    lightning.seed_everything(seed, verbose=False)
    start = time.time()
    learned, asked = decisive("train")[:overfit], tested(overfit)
    losses: list[float] = []
    if row == PROBE:
        encoder = SentenceEncoder.load(options.encoder)
        values = linear_probe.log_odds(encoder, learned, asked, RULE)
        odds = {d.id: [round(z, 4)] * 2 for d, z in zip(asked, values, strict=True)}
        after = time.time()
    else:
        agent, losses = trained(AGENTS[row], learned, seed, options)
        after = time.time()
        odds = decided(agent, asked)
    found = items(odds, asked, RULE)
    return {
        "row": row,
        "seed": seed,
        "model": model,
        "overfit": overfit,
        "settings": {"lr": options.lr, "steps": options.steps, "lora": options.lora},
        "seconds": {"train": round(after - start), "test": round(time.time() - after)},
        "losses": losses,
        "odds": odds,
        "items": {RULE: found},
        "metrics": {RULE: round(statistics.mean(found.values()), 5)},
    }


def decided(agent: zoo.SoVA, asked: Sequence[Dilemma]) -> dict[str, list[float]]:
    """Return the log-odds of `to do` in both orders of the actions, by dilemma."""
    odds = {}
    for i in range(0, len(asked), DECIDED):
        group = asked[i : i + DECIDED]
        for record, answer in zip(group, agent.generate(group), strict=True):
            odds[record.id] = [round(z, 4) for z in answer.odds]
    return odds


def decisive(split: str) -> list[Dilemma]:
    """Return the dilemmas of a part in which the rule expects one action."""
    data = datamodules.DailyDilemmas(trials.data_path("daily_dilemmas"), divided=True)
    found = [record for record in data.records(split) if isinstance(record, Dilemma)]
    return [record for record in found if expected_action(record, RULE)]


def tested(overfit: int | None) -> list[Dilemma]:
    """Return what is decided: the held-out dilemmas, or those that were learned."""
    if overfit is not None:
        return decisive("train")[:overfit]
    return [record for split in HELD_OUT for record in decisive(split)]


def trained(
    kind: str, dilemmas: Sequence[Dilemma], seed: int, options: argparse.Namespace
) -> tuple[zoo.SoVA, list[float]]:
    """Return an agent after its steps, and the loss of each; `direct` learns nothing."""
    lora = {"targets": options.lora} if kind != "direct" else None
    agent = zoo.SoVA(
        backbone={"name": options.model, "dtype": options.dtype, "lora": lora},
        optimizer={"lr": options.lr, "schedule": "cosine", "warmup_ratio": 0.1},
        kind=kind,
        rule=RULE,
        read_text=False,
    )
    losses = Losses()
    if kind != "direct":
        precision = "32-true" if options.dtype == "float32" else "bf16-mixed"
        data = GivenRecords(dilemmas, batch_size=8, seed=seed)
        trainer = quiet_trainer(
            max_steps=options.steps, max_epochs=-1, precision=precision, callbacks=[losses]
        )
        trainer.fit(agent, data)
    agent.configure_model()
    return agent.eval(), losses.found


def table(entries: Sequence[trials.Entry], overfit: int | None = None) -> list[str]:
    """Return a Markdown table of rows; differences to `direct` are paired over dilemmas."""
    entries = trials.of_row(entries, overfit=overfit)
    if not entries:
        return []
    asked = {record.id: record for record in tested(overfit)}
    mine = [record for record in asked.values() if record.id in entries[0]["odds"]]
    counts = ExpectedRatio(RULE)(mine, constant_choices(TO_DO, len(mine)))
    always = [counts[f"expected_{RULE}_always_{policy}"] for policy in ("do", "not")]
    shares = trials.percent(*always)
    head = f"{RULE}: {len(mine)} dilemmas; always do {shares[0]}, always not {shares[1]}"
    direct = trials.of_row(entries, row="direct")
    cells = [cells_of(row, found, direct, mine) for row, found in trials.by_row(entries, ROWS)]
    return ["", head, "", *trials.markdown(TITLES, cells)]


def cells_of(
    row: str,
    entries: Sequence[trials.Entry],
    direct: Sequence[trials.Entry],
    mine: Sequence[Dilemma],
) -> list[str]:
    """Return a row of the table, means over its seeds."""
    ratios = [
        statistics.mean(
            ExpectedRatio(RULE)(mine, choices(mine, entry["odds"], which))[f"expected_{RULE}"]
            for entry in entries
        )
        for which in ((0,), (1,), (0, 1))
    ]
    gap = ""
    if direct and row != "direct":
        base = direct[0]["items"][RULE]
        gains = [
            100 * (statistics.mean(entry["items"][RULE][name] for entry in entries) - right)
            for name, right in base.items()
        ]
        low, high = bootstrap(gains)
        gap = f"{statistics.mean(gains):+.1f} ({low:+.1f} to {high:+.1f})"
    area = statistics.mean(float(auroc(entry["odds"], mine, RULE)) for entry in entries)
    return [row, str(len(entries)), str(len(mine)), *trials.percent(*ratios), gap, f"{area:.3f}"]


if __name__ == "__main__":
    main()
