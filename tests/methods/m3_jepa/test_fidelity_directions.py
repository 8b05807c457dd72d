"""M3-JEPA trains one direction per step, from picture to text or back, or both as an ablation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from methods.m3_jepa.m3_jepa_samples import (
    I2T,
    PAIRS_OF_TOWERS,
    T2I,
    WAYS,
    Watch,
    assert_same_gradients,
    batch_of,
    constant,
    fit,
    learner,
    make,
    our_step,
    pairs,
)
from training import quiet_trainer

from datamodules import DigitsText


def untouched(way: str) -> tuple[str, ...]:
    """Return the beginnings of the names of what a step of the direction leaves alone."""
    source, target = way.split("2")
    other = f"{target}2{source}"
    return (
        f"predictor.regression.{other}.",
        f"predictor.contrastive.{other}.",
        f"predictor.inputs.{target}.",
        f"predictor.direction_vectors.{other}:",
        f"predictor.targets.{source}.",
    )


@pytest.mark.fidelity("m3_jepa", 5)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_alternate_and_leave_the_other_direction_alone(
    towers: tuple[str, str], accumulate: int
) -> None:
    """i2t, t2i, i2t, ...: fixed over the window of an optimiser step, also over an epoch's end.

    In a step the other direction's heads, input projection, direction vector and contrastive
    projection have no gradient and do not change, weight decay and Adam's memory included; all
    else has one and changes.
    """
    module = learner(towers, optimizer=constant(weight_decay=0.2))
    _, watch = fit(module, 7, accumulate_grad_batches=accumulate)
    assert [set(ways) for ways in watch.ways] == [{WAYS[i % 2]} for i in range(7)]
    assert max(len(ways) for ways in watch.ways) == accumulate
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    for (way, *_), missing, moved in zip(watch.ways, watch.missing, watch.moved, strict=True):
        alone = {n for n in trained if n.startswith(untouched(way))}
        assert len(alone) == 9  # four linears with their biases and a vector
        assert missing == alone
        assert not moved & alone
        shared = {n for n in trained - alone if n.startswith("predictor.")}
        assert shared <= moved


@pytest.mark.fidelity("m3_jepa", 5)
def test_a_short_window_at_the_end_of_an_epoch_is_one_turn() -> None:
    """Three batches of an epoch in windows of two: the lone third is a turn of its own."""
    module = learner(PAIRS_OF_TOWERS[0])
    watch = Watch()
    few = {"limit_val_batches": 0, "limit_train_batches": 3, "accumulate_grad_batches": 2}
    trainer = quiet_trainer(max_epochs=2, **few, callbacks=[watch])
    trainer.fit(module, datamodule=DigitsText(batch_size=4, max_train=40, max_val=8))
    assert watch.ways == [[I2T, I2T], [T2I], [I2T, I2T], [T2I]]


@pytest.mark.fidelity("m3_jepa", 5)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resuming_goes_on_with_the_direction_whose_turn_it_is(
    tmp_path: Path, accumulate: int
) -> None:
    """Three steps, a checkpoint, three more: the directions and weights of six unbroken ones."""
    options = {"accumulate_grad_batches": accumulate}
    whole = learner(PAIRS_OF_TOWERS[0])
    _, unbroken = fit(whole, 6, **options)
    trainer, first = fit(learner(PAIRS_OF_TOWERS[0]), 3, **options)
    trainer.save_checkpoint(tmp_path / "three.ckpt")
    torch.manual_seed(7)
    rest = make(PAIRS_OF_TOWERS[0], optimizer=constant()).train()
    _, second = fit(rest, 6, ckpt_path=str(tmp_path / "three.ckpt"), **options)
    assert second.ways[0][0] == T2I
    assert first.ways + second.ways == unbroken.ways
    for name, value in rest.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name


def test_joint_training_sums_both_directions(towers: tuple[str, str]) -> None:
    """The ablation: every step has the sum of both directions' losses, and all gradients."""
    module = make(towers, spread=5.0, alternate=False)
    batch = batch_of(module, pairs(5))
    loss, ours = our_step(module, batch, 0)
    single = make(towers, spread=5.0)
    single.load_state_dict(module.state_dict())
    parts = [our_step(single, batch, step) for step in (0, 1)]
    torch.testing.assert_close(loss, parts[0][0] + parts[1][0])
    expected = {
        n: sum((found[n] for _, found in parts if found[n] is not None), torch.zeros(()))
        for n in ours
    }
    assert_same_gradients(ours, expected)
