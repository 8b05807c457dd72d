"""The models of the rows of `quality.py`, trained stage by stage in `--folder`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import lightning

import datamodules
import zoo
from benchmarks import trials
from benchmarks.training import Losses, quiet_trainer
from zoo.methods.alpo.__main__ import SCORING, sample
from zoo.methods.alpo.candidates import Sampling
from zoo.records import ScoredBlock

ROWS: dict[str, dict[str, Any]] = {
    "zero-shot": {},
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


def trained_model(row: str, seed: int, options: argparse.Namespace) -> Any:
    """Return the model of a row."""
    if row == "zero-shot":
        model = zoo.ALPO(backbone={"name": options.backbone, "dtype": options.dtype})
        model.configure_model()
        return model
    model = translator(seed, options)
    return model if row == "SFT" else preferred(row, seed, options)


def translator(seed: int, options: argparse.Namespace) -> Any:
    """Return the translator of a seed: learned now, or loaded."""
    folder = options.folder / f"sft-{seed}"
    if not folder.exists():
        lightning.seed_everything(seed, verbose=False)
        optimizer = {"lr": options.sft_lr, "schedule": "cosine", "warmup_ratio": 0.1}
        model = zoo.ALPO(backbone=learner(options.backbone, options), optimizer=optimizer)
        data = subtitles(options, part="sft", seed=seed, max_train=options.overfit)
        fit(model, data, options.sft_steps, 8, options)
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
    scoring = replace(SCORING, kind=options.scoring, judge=judge_model(options.judge))
    sample(str(options.folder / f"sft-{seed}"), data, str(scored), "train", sampling, scoring)
    changes = dict(ROWS[row])
    count = changes.pop("candidates", None)
    lightning.seed_everything(seed, verbose=False)
    optimizer = {"lr": options.lr, "schedule": "cosine", "warmup_ratio": 0.1}
    name = str(options.folder / f"sft-{seed}")
    backbone = learner(name, options)
    model = zoo.ALPO(backbone=backbone, optimizer=optimizer, seed=seed, **changes)
    candidates = Candidates(str(scored), count, batch_size=1, seed=seed)
    fit(model, candidates, options.steps, options.step_blocks, options)
    return model


def learner(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the backbone of a model that learns."""
    lora = None if options.lora is None else {"targets": options.lora}
    return {"name": name, "dtype": options.dtype, "lora": lora}


def fit(model: Any, data: Any, steps: int, blocks: int, options: argparse.Namespace) -> None:
    """Learn for a number of steps of so many blocks."""
    trainer = quiet_trainer(
        max_steps=steps,
        max_epochs=-1,
        accumulate_grad_batches=blocks // data.batch_size,
        accelerator=options.accelerator,
        precision="32-true" if options.dtype == "float32" else "bf16-mixed",
        callbacks=[Losses()],
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


def judge_model(name: str | None) -> zoo.Backbone | None:
    """Return a judge's model."""
    return None if name is None else zoo.Backbone(name=name)
