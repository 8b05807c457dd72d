"""The module base: logged means, checkpoints, plain hyperparameters, construction."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_modules import tiny

import zoo
from zoo.backbone import as_config
from zoo.errors import InputError
from zoo.module import evaluating


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
