"""The check of a loaded model: it refuses what differs, says where, and changes nothing."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from zoo.errors import InputError
from zoo.nn import path_check
from zoo.nn.attention import NAME
from zoo.nn.path_check import check_paths, own_attention


@pytest.fixture
def lm(make: Callable[..., Any]) -> Any:
    return copy.deepcopy(make("SFT", "tiny-llama", spread=8.0).lm)


def scaled(lm: Any, factor: float) -> Any:
    """A model whose own logits have another scale than head times states."""

    def change(module: Any, args: Any, output: Any) -> Any:
        output.logits = output.logits * factor
        return output

    lm.register_forward_hook(change)
    return lm


@pytest.mark.parametrize("training", [True, False])
def test_a_model_that_fits_stays_as_it_was(lm: Any, training: bool) -> None:
    lm.train(training)
    lm.config._attn_implementation = "eager"
    before = {name: tensor.clone() for name, tensor in lm.state_dict().items()}
    check_paths(lm)
    assert lm.training == lm.model.layers[0].training == training
    assert lm.config._attn_implementation == "eager"
    assert all(torch.equal(tensor, before[name]) for name, tensor in lm.state_dict().items())
    assert all(parameter.grad is None for parameter in lm.parameters())
    with contextlib.suppress(InputError), own_attention(lm):
        assert lm.config._attn_implementation == NAME
        raise InputError("inside")
    assert lm.config._attn_implementation == "eager"


def test_another_scale_is_refused_with_its_size(lm: Any) -> None:
    said = r"LlamaForCausalLM \(model_type llama\) cannot be used: the logits of a packed batch "
    with pytest.raises(InputError, match=said + r"differ from its own by 50.0%; .* README.md"):
        check_paths(scaled(lm.train(), 2.0))
    assert lm.training


@pytest.mark.parametrize(
    ("dtype", "near", "far"),
    [(torch.float32, 1.0005, 1.003), (torch.bfloat16, 1.05, 1.3), (torch.float64, 1, 1.00001)],
)
def test_rounding_is_tolerated_and_no_more(
    lm: Any, dtype: torch.dtype, near: float, far: float
) -> None:
    """A thousandth of a logit's size in float32, a tenth in 16 bits, a millionth in float64."""
    check_paths(scaled(copy.deepcopy(lm).to(dtype), near))
    with pytest.raises(InputError, match="differ from its own"):
        check_paths(scaled(lm.to(dtype), far))


@pytest.mark.parametrize(
    ("name", "applies"),
    [
        ("a packed batch", lambda given: given.get("lengths") is not None),
        (
            "a padded batch",
            lambda given: getattr(given.get("attention_mask"), "shape", ()) == (2, 5),
        ),
        ("blocks split at a depth", lambda given: bool(given.get("use_cache"))),
    ],
)
def test_the_pass_that_fails_is_named(
    lm: Any, name: str, applies: Callable[[dict[str, Any]], bool]
) -> None:
    """With the first line of what the model's code says."""

    def refuse(module: Any, args: Any, given: dict[str, Any]) -> None:
        if applies(given):
            raise RuntimeError("no such thing\nmore")

    lm.model.register_forward_pre_hook(refuse, with_kwargs=True)
    with pytest.raises(InputError, match=rf"cannot be used: {name} fails \(no such thing\);"):
        check_paths(lm)


def test_a_pass_of_its_own_that_fails_is_named_too(lm: Any) -> None:
    def refuse(module: Any, args: Any) -> None:
        raise RuntimeError("not today")

    lm.register_forward_pre_hook(refuse)
    with pytest.raises(InputError, match=r"its own pass fails \(not today\)"):
        check_paths(lm)


@pytest.mark.parametrize(("limit", "run"), [(2, 2), (8, 4)])
def test_a_large_model_runs_its_first_blocks_alone(
    lm: Any, limit: int, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path_check, "BLOCKS", limit)
    called = set()
    for i, block in enumerate(lm.model.layers):
        block.register_forward_hook(lambda *_, i=i: called.add(i))
    check_paths(lm)
    assert called == set(range(run))
