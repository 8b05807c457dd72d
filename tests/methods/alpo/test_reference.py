"""Which policy is the reference: that that a run starts with; a resumed run keeps it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from methods.alpo.alpo_blocks import FEW, OPEN, scored
from training import quiet_trainer

import zoo
from datamodules import ScoredBlocks

WEIGHTS = 2 * 6 / (6 + 6 + 3)  # of two open segments and a closed one


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, list[float]]:
    """Return a module, a function that trains it for some steps more, and the losses so far."""
    monkeypatch.setattr("zoo.methods.alpo.encoder.instruction", lambda block: "Go.")  # short
    path = tmp_path / "scored.jsonl"
    rows = [json.dumps(asdict(scored([OPEN, FEW, OPEN], i, seed=i))) for i in range(4)]
    path.write_text("".join(f"{row}\n" for row in rows), "utf-8")
    optimizer = {"lr": 0.01, "schedule": "constant"}
    module = zoo.ALPO({"name": "tiny-llama"}, optimizer, "alpo", max_answer_tokens=2)
    losses: list[float] = []
    step = module.training_step

    def recorded(*given: Any) -> Any:
        loss = step(*given)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(module, "training_step", recorded)

    def fit(steps: int, **given: Any) -> Any:
        trainer = quiet_trainer(max_steps=steps, max_epochs=-1, num_sanity_val_steps=1)
        trainer.fit(module, ScoredBlocks(str(path), val=str(path), batch_size=2), **given)
        return trainer

    return module, fit, losses


@pytest.mark.fidelity("alpo", 2)
def test_every_run_starts_from_its_own_policy(
    started: tuple[Any, Any, list[float]], tmp_path: Path
) -> None:
    """h = 0 in the first step of each: L = ln 2 sum_i w_i, also after a checkpoint was tested."""
    module, fit, losses = started
    trainer = fit(4)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    assert losses[0] == pytest.approx(math.log(2) * WEIGHTS, rel=1e-5)
    assert losses[-1] < losses[0] - 0.01
    fit(2)
    assert losses[4] == pytest.approx(math.log(2) * WEIGHTS, rel=1e-5)
    assert losses[5] < losses[4]
    trainer.validate(module, trainer.val_dataloaders, str(tmp_path / "run.ckpt"), verbose=False)
    fit(1)
    assert losses[6] == pytest.approx(math.log(2) * WEIGHTS, rel=1e-5)


def test_a_resumed_run_keeps_its_reference(
    started: tuple[Any, Any, list[float]], tmp_path: Path
) -> None:
    module, fit, losses = started
    fit(4).save_checkpoint(tmp_path / "run.ckpt")
    kept = {name: value.clone() for name, value in module.reference.values.items()}
    fit(6, ckpt_path=str(tmp_path / "run.ckpt"))
    assert len(losses) == 6
    assert losses[4] < losses[0] - 0.01
    assert all(value.equal(kept[name]) for name, value in module.reference.values.items())
