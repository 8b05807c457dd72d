"""Modules of the emotional support benchmark, trained on the same decisions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lightning

import zoo
from benchmarks.support.data import taught
from benchmarks.support.table import ROWS, Row
from benchmarks.training import GivenRecords, quiet_trainer
from zoo.backbone import Backbone
from zoo.export import save
from zoo.judges.local import LocalLLM
from zoo.support.judging import SupportJudge

OPTIMIZER = {"schedule": "cosine", "warmup_ratio": 0.03, "weight_decay": 0.0, "beta2": 0.95}
JUDGE_TOKENS = 8  # then its most likely grade counts; a small model rarely ends in a grade


def learned(weights: str, seed: int, options: argparse.Namespace) -> Any:
    """Return the module of the first row with these weights, trained if it learns."""
    if any(row.responder == "tuned" for row in ROWS.values() if row.weights == weights):
        teach_responder(seed, options)
    if weights == "none":
        return None
    row = first(weights)
    lightning.seed_everything(seed, verbose=False)
    module = build(row, seed, options)
    if weights != "talker":
        train(module, row.examples, seed, options)
    return module.to(options.device)


def first(weights: str) -> Row:
    """Return the row whose training run gives these weights."""
    return next(row for row in ROWS.values() if row.weights == weights)


def build(row: Row, seed: int, options: argparse.Namespace, base: Any = None) -> Any:
    """Return the module of a row, with the weights of another one if it is given."""
    talker = {"name": options.talker, "dtype": options.talker_dtype}
    backbone = talker if row.weights == "talker" else {"name": options.backbone}
    given = {"max_length": options.window, "max_new_tokens": options.new_tokens, **row.given}
    if row.responder == "tuned":
        given["responder"] = {"name": str(responder(seed, options))}
    elif row.responder:
        given["responder"] = talker
    if row.method in ("ESCBaseline", "CoCT"):
        given["reserve"] = options.window // 3
    if given.get("reward") == "distill":
        given["grades"] = str(options.folder / f"grades-{Path(options.talker).name}.jsonl")
    optimizer = {"lr": options.lr, "final_ratio": 0.1, **OPTIMIZER}
    module = getattr(zoo, row.method)(backbone, optimizer, **given)
    if base is not None:
        module.lm, module.tokenizer, module.built = base.lm, base.tokenizer, True
    elif row.weights != "none":
        module.configure_model()
    if given.get("reward") == "distill" and base is None:
        size = {"max_new_tokens": JUDGE_TOKENS, "max_length": 2 * options.window}
        llm = LocalLLM.load(Backbone(**talker), device=options.device, **size)
        module.judge = SupportJudge(llm, forced=True)
    return module


def responder(seed: int, options: argparse.Namespace) -> Path:
    """Return the folder of the fine-tuned responder."""
    made: Path = options.folder / f"{Path(options.backbone).name}-{options.steps}-{seed}"
    return made


def teach_responder(seed: int, options: argparse.Namespace) -> None:
    """Train and export the responder that straQ*'s rows share, unless it is there."""
    if responder(seed, options).is_dir():
        return
    lightning.seed_everything(seed, verbose=False)
    optimizer = {"lr": options.lr, "final_ratio": 0.1, **OPTIMIZER}
    given = {"max_length": options.window, "max_answer_tokens": options.new_tokens}
    module = zoo.StraQResponder({"name": options.backbone}, optimizer, **given)
    train(module, 1, seed, options)
    save(module, responder(seed, options))


def train(module: Any, examples: int, seed: int, options: argparse.Namespace) -> None:
    """Train once through the training decisions, of each of which so many examples are made."""
    trainer = quiet_trainer(
        max_epochs=1,
        accelerator=options.device,
        devices=1,
        precision=options.precision,
        accumulate_grad_batches=options.per_step,
    )
    trainer.fit(module, GivenRecords(taught(options), batch_size=examples, seed=seed))
    if trainer.global_step != options.steps:
        raise RuntimeError(f"{trainer.global_step} steps instead of {options.steps}")
