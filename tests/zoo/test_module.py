"""The module base: optimiser, schedule, clipping, checkpoints, plain hyperparameters."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from training import Fixed, quiet_trainer

import zoo
from zoo.backbone import as_config
from zoo.errors import InputError
from zoo.module import evaluating


@pytest.fixture
def fit(tmp_path: Path, triples: list[Any]) -> Callable[..., Any]:
    """Train a module on the sample triples."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    def run(module: Any, **options: Any) -> Any:
        trainer = quiet_trainer(**{"default_root_dir": tmp_path, "max_epochs": 1, **options})
        trainer.fit(module, datamodule=Fixed(triples))
        return trainer

    return run


def tiny(method: str = "MeTHanol", name: str = "tiny-llama", **options: Any) -> Any:
    return getattr(zoo, method)(zoo.Backbone(name), **options)


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


def test_training_logs_means_per_token(fit: Callable[..., Any], triples: list[Any]) -> None:
    module = tiny(optimizer=zoo.Optimizer(lr=0.0), think_weight=0.25)
    trainer = fit(module, max_steps=1)
    encoder = module.encoder()
    examples = [example for record in triples for example in encoder(record)]
    with torch.no_grad():
        terms = module.losses(encoder.collate(examples, {0: 1.0, 1: 1.0}))
    for name in ("think", "speak"):
        logged = trainer.callback_metrics[f"train/{name}_loss"].item()
        assert logged == pytest.approx(terms[name].mean.item(), rel=1e-4)
    total = 0.25 * terms["think"].mean + terms["speak"].mean
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(total.item(), rel=1e-4)


# -- checkpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["MeTHanol", "SFT"])
def test_a_checkpoint_holds_plain_values_and_loads(
    fit: Callable[..., Any], tmp_path: Path, triples: list[Any], method: str
) -> None:
    options = {"max_thought_tokens": 5, "optimizer": zoo.Optimizer(lr=3e-3, schedule="cosine")}
    module = tiny(method, **options)
    path = tmp_path / "run.ckpt"
    fit(module).save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)  # raises on anything that would unpickle
    saved = checkpoint["hyper_parameters"]
    assert saved["optimizer"]["schedule"] == "cosine"
    assert saved["backbone"]["name"] == "tiny-llama"
    json.dumps({k: v for k, v in saved.items() if not k.startswith("_")})
    assert checkpoint["rng"]["cpu"].dtype == torch.uint8
    loaded = type(module).load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    assert (loaded.max_thought_tokens, loaded.optimizer.lr) == (5, 3e-3)
    assert loaded.backbone == module.backbone
    state = loaded.state_dict()
    for name, value in module.state_dict().items():
        assert torch.equal(state[name], value), name
    module.eval()
    assert loaded.generate(triples) == module.generate(triples)


def test_training_changes_what_is_saved(fit: Callable[..., Any]) -> None:
    module, fresh = tiny(optimizer=zoo.Optimizer(lr=1e-2)), tiny()
    fit(module)
    fresh.configure_model()
    for (name, a), b in zip(module.named_parameters(), fresh.parameters(), strict=True):
        assert not torch.equal(a, b), f"{name} was not trained"


def test_random_state_travels_with_the_checkpoint() -> None:
    module, checkpoint = tiny(), {}
    torch.manual_seed(3)
    module.on_save_checkpoint(checkpoint)
    expected = torch.rand(4)
    torch.manual_seed(4)
    module.on_load_checkpoint(checkpoint)
    assert torch.equal(torch.rand(4), expected)
    module.on_load_checkpoint({})  # a checkpoint of plain weights


def test_hyperparameters_are_plain() -> None:
    module = tiny(think_weight=0.25)
    assert module.hparams["think_weight"] == 0.25
    assert type(module.hparams["backbone"]) is dict
    json.dumps(dict(module.hparams))

    class Own(zoo.MeTHanol):
        """A researcher's subclass without a constructor."""

    assert Own(zoo.Backbone("tiny-llama"), thinking_layer=3).hparams["thinking_layer"] == 3


# -- construction ------------------------------------------------------------------------------


def test_construction_builds_nothing_heavy_and_configure_model_once() -> None:
    module = tiny()
    assert module.lm is None
    assert not list(module.parameters())
    module.configure_model()
    lm = module.lm
    module.configure_model()
    assert module.lm is lm


def test_the_encoder_needs_no_weights() -> None:
    module = tiny()
    encoder = module.encoder()
    assert module.lm is None
    module.configure_model()
    assert module.encoder() is encoder


def test_meta_build_has_shapes_only() -> None:
    module = tiny()
    module.build(meta=True)
    assert {p.device.type for p in module.parameters()} == {"meta"}


def test_config_objects() -> None:
    given = zoo.Optimizer(lr=1.0)
    assert as_config(zoo.Optimizer, given) is given
    assert as_config(zoo.Optimizer, None) == zoo.Optimizer()
    assert as_config(zoo.Optimizer, {"lr": 1.0}) == given
    with pytest.raises(TypeError, match="learning_rate"):
        as_config(zoo.Optimizer, {"learning_rate": 1.0})


@pytest.mark.parametrize("k", [0, 5, -1])
def test_a_thinking_layer_outside_the_backbone_is_refused(k: int) -> None:
    with pytest.raises(InputError, match=r"thinking_layer: .* is not in 1\.\.4"):
        tiny(thinking_layer=k).configure_model()


@pytest.mark.parametrize("shape", ["tiny-llama", "tiny-qwen2"])  # untied, tied
@pytest.mark.parametrize(
    ("method", "whole"),
    [
        ("SFT", set()),
        pytest.param(
            "MeTHanol",
            {"thinking_head", "lm.lm_head", "lm.model.norm"},
        ),
        pytest.param(
            "HdLM",
            {"heads.0", "lm.lm_head", "lm.model.norm"},
        ),
        pytest.param("LaMsS", {"lm.lm_head", "lm.model.embed_tokens"}),
    ],
)
def test_heads_train_beside_adapters(shape: str, method: str, whole: set[str]) -> None:
    """LoRA holds the blocks; what a paper trains of the heads is trained as a whole."""
    module = getattr(zoo, method)(zoo.Backbone(shape, lora=zoo.LoRA(rank=2)))
    module.configure_model()
    names = {id(p): n for n, p in module.named_parameters() if p.requires_grad}
    found = {n.removesuffix(".weight") for n in names.values() if "lora_" not in n}
    parts = dict(module.named_modules())
    assert {id(parts[name].weight) for name in whole} == {
        id(p) for p in module.parameters() if p.requires_grad and "lora_" not in names[id(p)]
    }, found


def test_frozen_backbone_trains_the_new_head_only() -> None:
    module = zoo.MeTHanol(zoo.Backbone("tiny-llama", freeze=True))
    module.configure_model()
    trained = [name for name, p in module.named_parameters() if p.requires_grad]
    assert trained == ["thinking_head.weight"]


@pytest.mark.parametrize("training", [True, False])
def test_evaluating_is_without_dropout_or_gradient(training: bool) -> None:
    """The mode of before comes back, also after an error; nothing of it is random."""
    lora = {"rank": 4, "alpha": 64.0, "dropout": 0.5, "targets": "all-linear"}
    module = zoo.SFT({"name": "tiny-llama", "lora": lora})
    module.configure_model()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.add_(0.1 * ("lora_" in name))
    tokens = torch.arange(8)[None]

    @evaluating
    def values(self: Any, *, fails: bool = False) -> torch.Tensor:
        if fails:
            raise ZeroDivisionError
        assert not self.training
        return self.lm(tokens).logits

    module.train(training)
    found = values(module)
    assert not found.requires_grad
    with pytest.raises(ZeroDivisionError):
        values(module, fails=True)
    assert {part.training for part in (module, module.lm)} == {training}
    assert torch.equal(found, values(module))
    assert torch.equal(found, module.lm(tokens).logits) != training
