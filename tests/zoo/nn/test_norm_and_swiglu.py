"""The lean RMSNorm and SwiGLU against Hugging Face's, values and gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from zoo.nn.norm import RMSNorm, replace_norms
from zoo.nn.swiglu import SwiGLU, replace_mlps

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 5e-2}


def both(eager: nn.Module, lean: nn.Module, x: torch.Tensor, mixed: bool) -> list[Any]:
    """Return output and gradients (input first) of the two modules on the same input."""
    found = []
    for module in (eager, lean):
        own = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            out = module(own)
        weight = torch.linspace(-1, 1, out.numel()).view_as(out)
        grads = torch.autograd.grad((out.float() * weight).sum(), [own, *module.parameters()])
        found.append([out.float(), *(g.float() for g in grads)])
    return found


@pytest.mark.parametrize(
    ("dtype", "mixed"),
    [(torch.float32, False), (torch.float32, True), (torch.bfloat16, False)],
)
@pytest.mark.parametrize("part", ["norm", "mlp", "mlp with biases"])
def test_equals_hugging_face(part: str, dtype: torch.dtype, mixed: bool) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    config = LlamaConfig(**sizes, mlp_bias=part == "mlp with biases")
    eager = LlamaRMSNorm(16) if part == "norm" else LlamaMLP(config)
    for parameter in eager.parameters():
        nn.init.normal_(parameter, std=0.5)
    holder = nn.ModuleDict({"part": copy.deepcopy(eager).to(dtype)})
    names = set(holder.state_dict())
    assert (replace_norms if part == "norm" else replace_mlps)(holder) == 1
    assert isinstance(holder["part"], RMSNorm if part == "norm" else SwiGLU)
    assert set(holder.state_dict()) == names
    x = torch.randn(2, 5, 16, dtype=dtype)
    want, got = both(eager.to(dtype), holder["part"], x, mixed)
    tolerance = TOLERANCE[torch.bfloat16 if mixed else dtype]
    for expected, value in zip(want, got, strict=True):
        torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)


def saved_bytes(module: nn.Module, x: torch.Tensor) -> int:
    """Return the bytes that autograd keeps for the backward pass, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = module(x)
    assert out.requires_grad
    return sum(kept.values())


def test_lean_parts_keep_less() -> None:
    config = LlamaConfig(hidden_size=64, intermediate_size=192, num_attention_heads=2)
    x = torch.randn(1, 100, 64, requires_grad=True)
    for eager in (LlamaRMSNorm(64), LlamaMLP(config)):
        holder = nn.ModuleDict({"part": copy.deepcopy(eager)})
        replace_norms(holder)
        replace_mlps(holder)
        assert saved_bytes(holder["part"], x) <= 0.65 * saved_bytes(eager, x)
