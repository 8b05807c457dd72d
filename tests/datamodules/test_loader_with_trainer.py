"""The step loader in Lightning's Trainer: accumulation, checkpoints, limits of epochs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from training import Data, Watched, quiet_trainer, watched

import zoo
from zoo.errors import InputError


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Any]:
    """Build a quiet CPU trainer."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    def build(**options: Any) -> Any:
        quiet = {"num_sanity_val_steps": 0, "limit_val_batches": 0, "default_root_dir": tmp_path}
        return quiet_trainer(**{**quiet, **options})

    return build


def test_accumulating_8_of_1_equals_1_of_8(trainer: Callable[..., Any], shape: str) -> None:
    found = {}
    for batch_size, accumulate in ((8, 1), (1, 8), (2, 4)):
        module = watched(shape)
        trainer(max_steps=1, accumulate_grad_batches=accumulate).fit(
            module, datamodule=Data(batch_size=batch_size)
        )
        assert len(module.trained) == accumulate
        found[batch_size] = module.first
    for size in (1, 2):
        for name, want in found[8].items():
            scale = want.abs().max().item()
            torch.testing.assert_close(
                found[size][name], want, rtol=1e-3, atol=1e-5 * scale, msg=lambda m, n=name: n + m
            )


def test_a_short_last_step_is_a_mean_too(trainer: Callable[..., Any]) -> None:
    """5 micro-batches, 4 to a step: the last step's gradient is the mean over its own one."""
    losses: list[float] = []

    class Summed(Watched):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            terms = self.losses(batch)
            means = sum(term.mean.item() for term in terms.values())
            losses.append(loss.item() / means)
            return loss

    module = Summed(zoo.Backbone("tiny-llama"), max_generated=0)
    trainer(max_epochs=1, accumulate_grad_batches=4).fit(
        module, datamodule=Data(train=5, batch_size=1)
    )
    # Lightning divides each loss by 4 whether 4 come or 1, so the share of the one has to be 4.
    assert len(losses) == 5
    assert losses[-1] == pytest.approx(4.0, rel=1e-4)


def test_a_trainer_resumes_in_the_middle_of_an_epoch(
    trainer: Callable[..., Any], tmp_path: Path
) -> None:
    """Stopped after 5 of 12 steps and resumed: the same batches and weights as the unbroken run."""
    options = {"max_epochs": 3, "gradient_clip_val": 1.0}
    whole = watched()
    trainer(**options).fit(whole, datamodule=Data(batch_size=2))

    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 5:
                trainer.save_checkpoint(tmp_path / "five.ckpt")
                trainer.should_stop = True

    first = watched()
    trainer(**options, callbacks=[Stop()]).fit(first, datamodule=Data(batch_size=2))
    assert len(first.trained) == 5
    second = watched()
    trainer(**options).fit(second, datamodule=Data(batch_size=2), ckpt_path=tmp_path / "five.ckpt")
    assert first.trained + second.trained == whole.trained
    for (name, a), b in zip(whole.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("batch", [1, 3, 5, 9])
def test_a_checkpoint_inside_a_step_resumes_exactly(
    batch: int, trainer: Callable[..., Any], tmp_path: Path
) -> None:
    """4 micro-batches an epoch, 2 to a step, saved after an odd one: the whole step is done again.

    Dropout makes random numbers count, and validation after every third batch goes on as well.
    """
    saved = tmp_path / "inside.ckpt"
    options = {"max_epochs": 3, "accumulate_grad_batches": 2, "val_check_interval": 3}
    options |= {"limit_val_batches": 1}

    class Save(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.fit_loop.total_batch_idx == batch - 1:
                trainer.save_checkpoint(saved)

    def fit(callbacks: list[Any], **more: Any) -> Watched:
        torch.manual_seed(1)
        lora = {"rank": 2, "dropout": 0.5}
        module = Watched(
            zoo.Backbone("tiny-llama", lora=lora), zoo.Optimizer(lr=1e-2), max_generated=0
        )
        run = trainer(**options, callbacks=callbacks)
        run.fit(module, datamodule=Data(batch_size=2), weights_only=True, **more)
        assert run.global_step == 6
        return module

    whole = fit([Save()])
    content = torch.load(saved, weights_only=True)
    steps = content["global_step"]
    again = fit([], ckpt_path=saved)
    assert again.trained == whole.trained[2 * steps :]
    assert len(again.trained) == 12 - 2 * steps
    for (name, a), b in zip(whole.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_place_inside_a_step_is_refused(trainer: Callable[..., Any], tmp_path: Path) -> None:
    """Of an older version, or with another accumulation: it cannot be the unbroken run."""
    run = trainer(max_steps=3, accumulate_grad_batches=1)
    run.fit(watched(), datamodule=Data(batch_size=2))
    run.save_checkpoint(tmp_path / "three.ckpt")
    with pytest.raises(InputError, match="taken inside an optimiser step of 2 micro-batches"):
        trainer(max_steps=9, accumulate_grad_batches=2).fit(
            watched(), datamodule=Data(batch_size=2), ckpt_path=tmp_path / "three.ckpt"
        )


def test_every_validation_sees_the_same_records(trainer: Callable[..., Any]) -> None:
    """Neither the sanity check nor a limit moves the place of later validations."""
    module = watched()
    trainer(max_epochs=2, num_sanity_val_steps=1, limit_val_batches=None).fit(
        module, datamodule=Data(batch_size=4, eval_batch_size=2)
    )
    ids = [f"val:{i}" for i in range(5)]
    assert module.validated == ids[:2] + ids + ids
    module = watched()
    trainer(max_epochs=2, limit_val_batches=1).fit(
        module, datamodule=Data(batch_size=4, eval_batch_size=2)
    )
    assert module.validated == ids[:2] * 2


def test_limited_epochs_have_equal_length(trainer: Callable[..., Any]) -> None:
    """limit_train_batches = 3 of 4: every epoch has 3 batches."""
    module = watched()
    trainer(max_epochs=3, limit_train_batches=3).fit(module, datamodule=Data(batch_size=2))
    assert len(module.trained) == 9
