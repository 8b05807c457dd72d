"""Sparse dispatch: what a dense pass of every expert, gathered, would give; gradients too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo.methods.m3_jepa.experts import Experts

TOKENS, WIDTH, NUM_EXPERTS = 23, 16, 6


def dense(experts: Experts, x_TH: Tensor, chosen_TK: Tensor, weights_TK: Tensor) -> Tensor:
    """Run every expert on every token, then gather the chosen ones."""
    up = torch.einsum("th,nfh->tnf", x_TH, experts.up_NHH) + experts.up_bias
    made = torch.einsum("tnf,nhf->tnh", torch.nn.functional.gelu(up), experts.down_NHH)
    made = made + experts.down_bias
    index = chosen_TK[..., None].expand(-1, -1, x_TH.shape[1])
    return (made.gather(1, index) * weights_TK[..., None]).sum(1)


def routed(top_k: int, allowed: int = NUM_EXPERTS) -> tuple[Tensor, Tensor]:
    """Random routes among the first `allowed` experts."""
    scores = torch.randn(TOKENS, NUM_EXPERTS)
    scores[:, allowed:] = -torch.inf
    weights, chosen = scores.softmax(1).topk(top_k)
    return chosen, weights


def spread(experts: Experts) -> Experts:
    with torch.no_grad():
        for bias in (experts.up_bias, experts.down_bias):
            bias.normal_()
    return experts


@pytest.mark.parametrize("top_k", [1, 2, NUM_EXPERTS])
def test_sparse_is_dense_then_gathered(top_k: int) -> None:
    experts = spread(Experts(NUM_EXPERTS, WIDTH)).double()
    x = torch.randn(TOKENS, WIDTH, dtype=torch.double, requires_grad=True)
    chosen, weights = routed(top_k)
    weights = weights.double().requires_grad_()
    inputs = [x, weights, *experts.parameters()]
    pull = torch.randn(TOKENS, WIDTH, dtype=torch.double)
    found = []
    for run in (experts, lambda *args: dense(experts, *args)):
        out = run(x, chosen, weights)
        found.append([out, *torch.autograd.grad((out * pull).sum(), inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_float32_is_close_too() -> None:
    experts = spread(Experts(NUM_EXPERTS, WIDTH))
    x, (chosen, weights) = torch.randn(TOKENS, WIDTH), routed(3)
    expected = dense(experts, x, chosen, weights)
    scale = expected.abs().max().item()
    torch.testing.assert_close(experts(x, chosen, weights), expected, rtol=0, atol=1e-6 * scale)


def test_experts_without_tokens_have_a_gradient_of_zero() -> None:
    """Not a missing one: processes that share the experts reduce all gradients."""
    experts = Experts(NUM_EXPERTS, WIDTH)
    chosen, weights = routed(2, allowed=2)
    experts(torch.randn(TOKENS, WIDTH), chosen, weights).sum().backward()
    for parameter in experts.parameters():
        assert parameter.grad is not None
        assert parameter.grad[:2].abs().sum() > 0
        assert not parameter.grad[2:].any()


def test_no_tokens_at_all() -> None:
    experts = Experts(NUM_EXPERTS, WIDTH)
    none = torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 2)
    assert experts(torch.zeros(0, WIDTH), *none).shape == (0, WIDTH)


def test_a_token_costs_k_experts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that the experts see are tokens x K, not tokens x N."""
    seen = []
    run = Experts.apply_expert
    monkeypatch.setattr(
        Experts, "apply_expert", lambda self, e, x: seen.append(len(x)) or run(self, e, x)
    )
    chosen, weights = routed(2)
    Experts(NUM_EXPERTS, WIDTH)(torch.randn(TOKENS, WIDTH), chosen, weights)
    assert sum(seen) == 2 * TOKENS
    assert len(seen) == NUM_EXPERTS


def test_dropout_inside_and_after_an_expert() -> None:
    """A constant of 1 comes out as 0 or 2 behind one dropout, as 0 or 4 behind both."""
    experts = Experts(NUM_EXPERTS, WIDTH, dropout=0.5)
    x, (chosen, _) = torch.zeros(TOKENS, WIDTH), routed(1)
    with torch.no_grad():
        for weight in (experts.up_NHH, experts.down_NHH):
            weight.zero_()
        experts.down_bias.fill_(1)
        after = experts(x, chosen, torch.ones(TOKENS, 1))
        experts.down_bias.zero_()
        experts.down_NHH.copy_(torch.eye(WIDTH))
        experts.up_bias.fill_(20)
        both = experts(x, chosen, torch.ones(TOKENS, 1)) / 20
    assert set(after.flatten().tolist()) == {0, 2}
    assert set(both.flatten().tolist()) == {0, 4}


def test_dropout_only_in_training() -> None:
    experts = Experts(NUM_EXPERTS, WIDTH, dropout=0.5)
    x, (chosen, weights) = torch.randn(TOKENS, WIDTH), routed(2)
    assert not torch.equal(experts(x, chosen, weights), experts(x, chosen, weights))
    experts.eval()
    assert torch.equal(experts(x, chosen, weights), experts(x, chosen, weights))


def test_bfloat16_states_with_float32_weights_of_the_gate() -> None:
    experts = Experts(NUM_EXPERTS, WIDTH).bfloat16()
    chosen, weights = routed(2)
    out = experts(torch.randn(TOKENS, WIDTH).bfloat16(), chosen, weights)
    assert out.dtype == torch.bfloat16
