"""Settings: rates of the adapters, what is refused, and what just fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from methods.dreamcub.dreamcub_reference import module_of

import datamodules
import zoo
from zoo.errors import InputError
from zoo.methods.dreamcub.belief import annotated, factors_of
from zoo.support.decisions import decisions
from zoo.support.labels import LABELS

ROOT = Path(__file__).parents[3]


def test_each_adapter_learns_at_its_own_rate(make: Any) -> None:
    """With its head; the policy's is that of the optimiser."""
    module = module_of(make, optimizer=zoo.Optimizer(lr=1e-3), world_lr=2e-3, critic_lr=3e-3)
    module._trainer = SimpleNamespace(estimated_stepping_batches=10, max_steps=10, max_epochs=None)
    found = module.configure_optimizers()
    optimizer = found["optimizer"] if isinstance(found, dict) else found[0][0]
    rates = {
        id(p): group.get("initial_lr", group["lr"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        world = "world_model" in name or name == "reward_head.weight"
        critic = "critic" in name or name == "value_head.weight"
        assert rates[id(parameter)] == (2e-3 if world else 3e-3 if critic else 1e-3), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"factors": []}, "model.factors: a belief needs one factor or more"),
        ({"lam": -0.1}, r"model.lam: -0.1 is not in 0..1"),
        ({"gamma": 1.1}, r"model.gamma: 1.1 is not in 0..1"),
        ({"rewards": "user", "user": {"kind": "replay"}}, "model.rewards: user needs a user that"),
    ],
)
def test_more_settings_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        zoo.DreamCUB({"name": "tiny-llama", "lora": {"rank": 2}}, **options).validate()


def named(path: Path) -> str:
    """Return where a config lies."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("dreamcub*.yaml")), ids=named)
def test_configs_name_factors_that_their_data_label(path: Path) -> None:
    """One without a label anywhere is never learned, and a random letter where it is inferred."""
    layers = [yaml.safe_load(p.read_text()) for p in (ROOT / "configs/dreamcub.yaml", path)]
    settings = layers[1]["model"]["init_args"]
    data = next(c["data"]["class_path"] for c in reversed(layers) if "class_path" in c["data"])
    dataset = settings.get("dataset", layers[0]["model"]["init_args"]["dataset"])
    names = settings.get("factors", ["emotion", "sentiment", "intention"])
    found = [
        annotated(decision, factors_of(names, dataset), dataset)
        for record in getattr(datamodules, data.partition(".")[2])().records("train")
        for decision in decisions(record, LABELS[settings.get("labels", "support")])
    ]
    for name, labels in zip(names, zip(*found, strict=True), strict=True):
        assert any(labels), name


def test_copies_are_not_quantised() -> None:
    module = zoo.DreamCUB({"name": "tiny-llama"}, full_copies=True)
    module.validate()
    module.backbone = replace(module.backbone, load_4bit=True)
    with pytest.raises(InputError, match="model.full_copies: 4-bit weights are not trained"):
        module.validate()


@pytest.mark.parametrize(
    "options",
    [
        *({name: value} for name in ("gamma", "lam") for value in (0.0, 1.0)),
        {"rewards": "user", "user": {"kind": "scripted"}},
        {"horizon": 0},
        {"candidates": 2, "horizon": 1},
        {"user": {"kind": "llm", "simulator": {"name": "tiny-llama"}}},
    ],
)
def test_settings_at_the_end_of_their_range_fit(options: dict[str, Any]) -> None:
    zoo.DreamCUB({"name": "tiny-llama", "lora": {"rank": 2}}, **options).validate()
