"""MeGan's gate: beta, its range, the gated output and its derivative, by the transcription."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods.megan.megan_reference import Reference
from methods.megan.megan_samples import VARIANTS, Make, build, close, logits_of, records, samples
from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore:.*activation_checkpointing.*")


# -- the transcription -------------------------------------------------------------------------


@pytest.mark.fidelity("megan", 3)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_beta_and_gated_output_equal_the_transcription(
    make: Make,
    case: tuple[str, dict[str, Any]],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """beta and the logits of every sequence, packed and padded; 1e-6 where rounding allows it."""
    from zoo.methods.megan import gate_function

    module = build(make, *case).to(dtype)
    reference = Reference(module, dtype)
    deltas: list[Tensor] = []
    original = gate_function.make_delta

    def recorded(*args: Any) -> Tensor:
        deltas.append(original(*args).clone())
        return original(*args)

    monkeypatch.setattr(gate_function, "make_delta", recorded)
    with torch.no_grad():
        for sample, record in zip(samples(module, records()), records(), strict=True):
            expected = reference.logits(sample[0], sample[2])
            deltas.clear()
            (ours,) = logits_of(module, [record])
            assert len(deltas) == len(reference.deltas) == 4
            for got, want, gated, block in zip(
                deltas, reference.deltas, reference.gated, module.lm.model.layers, strict=True
            ):
                assert float(want.abs().max()) > 0.05  # beta is far from 1
                loose = 1e-6 if dtype == torch.float64 else 3e-5  # what four layers round
                torch.testing.assert_close(got[None], want, rtol=0, atol=loose)
                assert gated.shape == want.shape == (1, len(sample[0]), 64)
                assert block.mlp.gating is None  # it was handed over for this call alone
            close(ours, expected)
    for packed in (True, False):
        module.padding_free, module._encoder = packed, None
        for ours, sample in zip(
            logits_of(module, records()), samples(module, records()), strict=True
        ):
            with torch.no_grad():
                close(ours, reference.logits(sample[0], sample[2]), 2e-5)


@pytest.mark.fidelity("megan", 3)
def test_gated_output_of_a_block_equals_the_transcription(
    make: Make, case: tuple[str, dict[str, Any]]
) -> None:
    """One feed-forward part on the same x and condition, to 1e-6 in float64."""
    from zoo.methods.megan.gated_swiglu import condition

    module = build(make, *case).double()
    reference = Reference(module, torch.float64)
    words = torch.randn(2, 5, 32, dtype=torch.float64)
    x = torch.randn(2, 7, 32, dtype=torch.float64)
    gating = condition(module.hypers, words, torch.ones(2, 5, dtype=torch.bool))
    reference.condition = words
    for ours, theirs in zip(module.lm.model.layers, reference.lm.model.layers, strict=True):
        ours.mlp.gating = gating
        torch.testing.assert_close(ours.mlp(x), theirs.mlp(x), rtol=0, atol=1e-6)


# -- 2: range and shape ------------------------------------------------------------------------


@pytest.mark.fidelity("megan", 2)
def test_beta_stays_between_a_half_and_three_halves(make: Make, shape: str) -> None:
    """delta is `[B, T, f]` in each layer and beta inside (0.5, 1.5), however large the input."""
    from zoo.methods.megan.gated_swiglu import condition
    from zoo.methods.megan.hypernetwork import linear

    for hyper in VARIANTS.values():
        module = build(make, shape, hyper).double()
        words, x = torch.randn(2, 5, 32).double(), torch.randn(2, 7, 32).double()
        gating = condition(module.hypers, words, torch.ones(2, 5, dtype=torch.bool))
        from zoo.methods.megan.gate_function import make_delta

        for scale in (0.0, 1.0, 30.0):
            for layer in range(4):
                index = layer if len(gating.hypers) > 1 else 0
                one = gating.hypers[index]
                state = one(scale * x, gating.keys[index], gating.values[index], None, layer)
                weight, bias = one.head_parameters(torch.float64)
                beta = 1 + make_delta(linear(state, weight, bias).clamp(-15, 15), None)
                assert beta.shape == (2, 7, 64)
                assert 0.5 < float(beta.min()) < float(beta.max()) < 1.5


@pytest.mark.fidelity("megan", 2)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_beta_in_low_precision(dtype: torch.dtype) -> None:
    """A delta of 0.005 survives bfloat16 (its step at 1 is 0.0078); the ends are never passed."""
    from zoo.methods.megan.gate_function import make_delta

    logits = torch.tensor([[0.0, 0.01, -0.01, 8.0, -8.0, 1e4, -1e4]], dtype=dtype)
    beta = 1 + make_delta(logits, None)
    assert beta.dtype == torch.float32
    assert beta[0, 0] == 1
    close(beta[0, 1:3], torch.tensor([1.005, 0.995]), 2e-5)
    assert bool((beta >= 0.5).all() and (beta <= 1.5).all())
    assert bool((beta[0, :5] > 0.5).all() and (beta[0, :5] < 1.5).all())


# -- 3: the gate -------------------------------------------------------------------------------


def gate_of(beta: Tensor, gate: Tensor, up: Tensor) -> Tensor:
    """Run our arithmetic with a given beta: W_b is the identity and z the inverse of (3)."""
    from zoo.methods.megan.gate_function import BentDown

    state = torch.atanh(2 * (beta - 1))
    identity = torch.eye(beta.shape[-1], dtype=beta.dtype)
    return BentDown.apply(gate, up, state, identity, None, None, None, False)[0]


@pytest.mark.fidelity("megan", 3)
def test_gate_is_g_times_sigmoid() -> None:
    """a * up = g sigmoid(beta g) up to 1e-5 for random beta; it is no rescaled SiLU."""
    beta = 0.51 + 0.98 * torch.rand(40, 64)
    gate, up = 3 * torch.randn(40, 64), torch.randn(40, 64)
    out = gate_of(beta, gate, up)
    torch.testing.assert_close(out, gate * torch.sigmoid(beta * gate) * up, rtol=0, atol=1e-5)
    assert float((out - beta * torch.nn.functional.silu(gate) * up).abs().max()) > 0.1


@pytest.mark.fidelity("megan", 3)
def test_derivative_in_beta() -> None:
    """d a / d beta = g^2 sigmoid'(beta g)."""
    beta = (0.51 + 0.98 * torch.rand(5, 8, dtype=torch.float64)).requires_grad_()
    gate = 3 * torch.randn(5, 8, dtype=torch.float64)
    out = gate_of(beta, gate, torch.ones_like(gate))
    (found,) = torch.autograd.grad(out.sum(), beta)
    s = torch.sigmoid(beta * gate)
    close(found, gate**2 * s * (1 - s), 1e-9)
