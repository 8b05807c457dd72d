"""The copy of trained parameters: exchanged, restored, saved; nothing of it in the module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from zoo import parallel
from zoo.weight_copy import WeightCopy

LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": "all-linear"}


def network() -> nn.Sequential:
    made = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    made[0].bias.requires_grad_(False)
    return made


def moved(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_used_computes_with_the_copy_and_gives_the_own_values_back() -> None:
    module, target, x = network(), WeightCopy(), torch.randn(5, 3)
    with target.used(module):  # nothing copied yet
        torch.testing.assert_close(module(x), module(x))
    target.sync(module)
    old = module(x)
    bias = module[0].bias.clone()
    moved(module)
    with torch.no_grad():
        module[0].bias.copy_(bias)  # frozen, so never moved
    own = {name: p.detach().clone() for name, p in module.named_parameters()}
    new = module(x)
    with target.used(module), torch.no_grad():
        assert torch.equal(module(x), old)
    assert torch.equal(module(x), new)
    assert not torch.equal(old, new)
    with pytest.raises(ZeroDivisionError), target.used(module):
        raise ZeroDivisionError
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, own[name])
    assert set(target.values) == {"0.weight", "2.weight", "2.bias"}  # what is trained


def test_exchange_moves_no_numbers() -> None:
    module, target = network(), WeightCopy()
    target.sync(module)
    own, copied = module[2].weight.data_ptr(), target.values["2.weight"].data_ptr()
    with target.used(module):
        assert module[2].weight.data_ptr() == copied
        assert target.values["2.weight"].data_ptr() == own
    assert module[2].weight.data_ptr() == own


def test_copies_of_adapters_are_small(make: Any, shape: str) -> None:
    module = make("StraQ", shape, backbone={"lora": LORA})
    module.target.sync(module)
    size = sum(value.numel() for value in module.target.values.values())
    assert 0 < size == sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert size < sum(p.numel() for p in module.lm.model.layers.parameters()) / 2


def gradient(module: nn.Module, target: WeightCopy, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Return the output and gradient of a pass that follows one with the copy, under autocast."""
    module.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        with target.used(module), torch.no_grad():
            module(x)
        out = module(x)
        out.float().sum().backward()
    return out.detach(), module[2].weight.grad


def test_autocast_keeps_no_weight_of_the_other_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cast weights are kept by parameter: without care the own pass would get the copy's."""
    module, target, x = network(), WeightCopy(), torch.randn(5, 3)
    target.sync(module)
    moved(module)
    with torch.autocast("cpu", torch.bfloat16):
        own = module(x).detach()
    out, grad = gradient(module, target, x)
    assert torch.equal(out, own)
    assert grad is not None
    assert grad.abs().max() > 0
    assert torch.is_autocast_cache_enabled()
    with monkeypatch.context() as patch:
        patch.setattr(parallel.torch, "set_autocast_cache_enabled", lambda on: None)
        try:
            stale, _ = gradient(module, target, x)
        except RuntimeError:  # no weight with a gradient is left
            return
    assert not torch.equal(stale, own), "nothing went wrong without the care"


def test_saved_and_loaded() -> None:
    module, target = network(), WeightCopy()
    target.sync(module)
    moved(module)
    state = {name: value.clone() for name, value in target.state().items()}
    other = WeightCopy()
    other.load(state)
    assert {n: t.data_ptr() for n, t in other.state().items()} == {
        n: t.data_ptr() for n, t in state.items()
    }  # saved again before it was ever used
    with other.used(module):
        assert torch.equal(module[2].weight, state["2.weight"])
    assert other.values["2.weight"].data_ptr() != state["2.weight"].data_ptr()
    assert other.values.keys() == state.keys()


def test_state_of_another_module() -> None:
    other = WeightCopy()
    other.load({"gone": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="of other parameters, first 0.weight"):
        other.attach(network())
