"""DreamCUB's properties of its losses and returns alone, on plain numbers."""

from __future__ import annotations

import pytest
import torch
from methods.dreamcub.dreamcub_reference import ppo_losses

from zoo.methods.dreamcub.behaviour import lambda_returns, policy_loss, value_loss
from zoo.methods.dreamcub.world_losses import balanced_kl


@pytest.mark.fidelity("dreamcub", 2)
@pytest.mark.parametrize(("alpha", "moves"), [(1.0, "prior"), (0.0, "posterior")])
def test_kl_balancing_says_who_moves(alpha: float, moves: str) -> None:
    q, p = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    balanced_kl(q.log_softmax(-1), p.log_softmax(-1), alpha).sum().backward()
    still, moved = (q, p) if moves == "prior" else (p, q)
    assert moved.grad is not None
    assert moved.grad.abs().max() > 0
    assert still.grad is None or still.grad.abs().max() == 0


@pytest.mark.fidelity("dreamcub", 6)
def test_lambda_returns() -> None:
    """The sheet's numbers; lambda 0 is one-step TD, lambda 1 the discounted sum with V(s_H)."""
    rewards = torch.tensor([[1.0], [0.5]])
    values = torch.tensor([[0.2], [0.4]])
    found = lambda_returns(rewards, values, 0.9, 0.95).flatten().tolist()
    assert found == pytest.approx([1.7443, 0.86], abs=1e-6)
    td = lambda_returns(rewards, values, 0.9, 0.0).flatten().tolist()
    assert td == pytest.approx([1 + 0.9 * 0.2, 0.5 + 0.9 * 0.4])
    full = lambda_returns(rewards, values, 0.9, 1.0).flatten().tolist()
    assert full == pytest.approx([1 + 0.9 * 0.5 + 0.81 * 0.4, 0.5 + 0.9 * 0.4])
    ended = lambda_returns(rewards, values, 0.9, 0.95, torch.tensor([[0.0], [1.0]]))
    assert ended[0].item() == 1.0


@pytest.mark.fidelity("dreamcub", 8)
def test_ppo_losses_are_those_of_a_transcription() -> None:
    """On random numbers on both sides of every clip."""
    lengths = [3, 1, 4]
    logp, old = torch.randn(8), torch.randn(8)
    old = logp + 0.4 * old
    advantages, values, before, returns = (torch.randn(3) for _ in range(4))
    rows = [part.tolist() for part in logp.split(lengths)], [p.tolist() for p in old.split(lengths)]
    wanted = ppo_losses(*rows, *(x.tolist() for x in (advantages, values, before, returns)), 0.2)
    policy = policy_loss(logp, old, advantages, lengths, 0.2).mean().item()
    value = value_loss(values, before, returns, 0.2).mean().item()
    assert (policy, value) == pytest.approx(wanted, abs=1e-5)
