"""The optimiser of modules: groups of parameters, schedule, clipping, broken gradients."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from tiny_modules import tiny

import zoo
from zoo.errors import InputError


def optimizer_of(module: Any, total: int) -> tuple[Any, Any]:
    module.configure_model()
    module._trainer = SimpleNamespace(max_steps=total, max_epochs=-1, strategy=None)
    found = module.configure_optimizers()
    return found["optimizer"], found["lr_scheduler"]["scheduler"]


@pytest.mark.parametrize("method", ["MeTHanol", "SFT"])
def test_decay_spares_vectors_and_every_parameter_is_in_one_group(shape: str, method: str) -> None:
    module = tiny(method, shape, optimizer=zoo.Optimizer(weight_decay=0.3, beta1=0.8, beta2=0.95))
    adamw, _ = optimizer_of(module, 10)
    decayed, spared = adamw.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.3, 0.0)
    assert decayed["betas"] == spared["betas"] == (0.8, 0.95)
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim == 1 for p in spared["params"])
    grouped = [id(p) for group in adamw.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in module.parameters())


def test_frozen_parameters_are_not_optimised() -> None:
    module = tiny()
    module.configure_model()
    module.lm.requires_grad_(False)
    module._trainer = SimpleNamespace(max_steps=10, max_epochs=-1, strategy=None)
    groups = module.configure_optimizers()["optimizer"].param_groups
    assert [p is module.thinking_head.weight for g in groups for p in g["params"]] == [True]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        (
            "cosine",
            [0.5, 1, 1, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060],
        ),
    ],
)
def test_schedule(schedule: Any, expected: list[float]) -> None:
    """Ten steps, two of them warm-up; learning rate of each step as a share of the peak."""
    options = zoo.Optimizer(lr=2.0, schedule=schedule, warmup_ratio=0.2)
    adamw, scheduler = optimizer_of(tiny(optimizer=options), 10)
    rates = []
    for _ in range(10):
        rates.append(adamw.param_groups[0]["lr"] / 2)
        adamw.step()
        scheduler.step()
    assert rates == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"max_epochs": 2}, 12),
        ({"max_epochs": 2, "accumulate_grad_batches": 4}, 4),
        ({"max_epochs": 3, "limit_train_batches": 2}, 6),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 6),
        ({"max_steps": 5, "max_epochs": -1}, 5),
        ({"max_steps": 50, "max_epochs": 1}, 6),
    ],
)
def test_the_schedule_ends_with_the_run(
    fit: Callable[..., Any], options: dict[str, Any], steps: int
) -> None:
    module = tiny(optimizer=zoo.Optimizer(warmup_ratio=0.0, schedule="linear"))
    trainer = fit(module, **options)
    assert trainer.global_step == steps
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


def test_clipping_scales_to_the_norm_and_logs_the_norm_before(fit: Callable[..., Any]) -> None:
    norms = []

    class Watch(lightning.Callback):
        def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
            grads = [p.grad for p in module.parameters() if p.grad is not None]
            if grads:
                norms.append(torch.stack([g.norm() for g in grads]).norm().item())

    trainer = fit(tiny(), gradient_clip_val=0.01, callbacks=[Watch()], max_steps=2)
    assert norms
    assert max(norms) == pytest.approx(0.01, rel=1e-3)
    assert trainer.callback_metrics["train/grad_norm"] > 0.02


@pytest.mark.parametrize("apart", [True, False])
def test_copied_heads_are_clipped_by_themselves(fit: Callable[..., Any], apart: bool) -> None:
    """Head and rest have the norm of the limit each, or both together."""
    norms = {}

    class Watch(lightning.Callback):
        def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
            grads = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
            if grads:
                norms["all"] = torch.stack([g.norm() for g in grads.values()]).norm().item()
                norms["head"] = grads["thinking_head.weight"].norm().item()

    module = tiny(optimizer=zoo.Optimizer(clip_heads_apart=apart))
    trainer = fit(module, gradient_clip_val=0.01, callbacks=[Watch()], max_steps=2)
    if apart:
        assert norms["head"] == pytest.approx(0.01, rel=1e-3)
    assert norms["all"] == pytest.approx(0.01 * (2**0.5 if apart else 1), rel=1e-3)
    assert trainer.callback_metrics["train/grad_norm"] > 0.02


def test_a_head_that_levels_share_is_one(make: Any) -> None:
    assert len(make("HdLM", "tiny-llama", layers=[1, 2], share_head=True).copied_heads()) == 1
    assert len(make("HdLM", "tiny-llama", layers=[1, 2]).copied_heads()) == 2


@pytest.mark.parametrize("limit", [None, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_gradient_stops_the_run(
    fit: Callable[..., Any], limit: float | None, value: float
) -> None:
    class Broken(zoo.SFT):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) * value

    module = Broken(zoo.Backbone("tiny-llama"))
    module.configure_model()
    before = {name: p.clone() for name, p in module.named_parameters()}
    with pytest.raises(RuntimeError, match="gradient norm is .* at step 0"):
        fit(module, gradient_clip_val=limit)
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("lr", -1e-5), ("lr", float("nan")), ("weight_decay", -0.1), ("warmup_ratio", 1.1)),
        *(("final_ratio", -0.1), ("beta1", 1.0), ("beta2", -0.1)),
    ],
)
def test_numbers_of_the_optimiser(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"optimizer.{name}: {value} is not "):
        zoo.Optimizer(**{name: value})


def test_clipping_by_value_is_refused(fit: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="gradient_clip_algorithm"):
        fit(tiny(), gradient_clip_val=1.0, gradient_clip_algorithm="value")
