"""ALPO's property of prefixes over training: what the Trainer's steps log and run."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from methods.alpo.alpo_blocks import OPEN, prefix, scored
from training import quiet_trainer

import zoo
from datamodules import ScoredBlocks

STEPS, PARTS = 10, 2  # optimiser steps, and batches of each


def carried_by_chosen(batch: Any) -> list[bool]:
    """Return whether the chosen candidate stands in the prefix, of all segments but the last."""
    found, last = [], -1
    for plan in batch.plans:
        last += len(plan.choices)
        above = prefix(batch, int(batch.chosen[last]))[len(plan.prompt) :]
        for candidates, choice in zip(plan.candidates[:-1], plan.choices, strict=False):
            (taken,) = [i for i, ids in enumerate(candidates) if above[: len(ids)] == ids]
            found.append(taken == choice.chosen)
            above = above[len(candidates[taken]) :]
        assert above == ()
    return found


@pytest.mark.fidelity("alpo", 7)
def test_lambda_rises_with_the_steps_and_prefixes_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lambda(t) = 0.2 + 0.4 t / T is logged; the batches have lambda + (1 - lambda) / |T|."""
    monkeypatch.setattr("zoo.methods.alpo.encoder.instruction", lambda block: "Go.")  # short
    path = tmp_path / "scored.jsonl"
    rows = [json.dumps(asdict(scored([OPEN] * 8, i, seed=i))) for i in range(16)]
    path.write_text("".join(f"{row}\n" for row in rows), "utf-8")
    module = zoo.ALPO({"name": "tiny-llama"}, objective="alpo")
    logged: list[float] = []
    batches: list[Any] = []
    module.log = lambda name, value, **_: name == "train/lambda" and logged.append(value)
    preference = module.preference
    module.preference = lambda batch: batches.append(batch) or preference(batch)
    trainer = quiet_trainer(
        max_steps=STEPS, accumulate_grad_batches=PARTS, limit_val_batches=0, max_epochs=-1
    )
    trainer.fit(module, ScoredBlocks(str(path), val=str(path), batch_size=8))
    lambdas = [0.2 + 0.4 * t / STEPS for t in range(STEPS) for _ in range(PARTS)]
    assert logged == pytest.approx(lambdas)
    for part in (slice(0, STEPS), slice(STEPS, None)):  # the first and the second half
        hits = [hit for batch in batches[part] for hit in carried_by_chosen(batch)]
        lam = sum(lambdas[part]) / STEPS
        share = lam + (1 - lam) / len(OPEN)
        assert abs(sum(hits) / len(hits) - share) < 4 * math.sqrt(share * (1 - share) / len(hits))
