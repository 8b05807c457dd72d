"""DreamCUB's properties of its losses and returns, and of what reaches whom."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods.dreamcub.dreamcub_reference import dialogue, letter_logps, module_of, ppo_losses
from methods.dreamcub.test_fidelity import FakeTrainer
from torch import Tensor
from training import batch_of, silence

from zoo.adapters import adapter_of
from zoo.losses.cross_entropy import total_loss
from zoo.methods.dreamcub.behaviour import lambda_returns, policy_loss, value_loss
from zoo.methods.dreamcub.belief import indices
from zoo.methods.dreamcub.encoder import State
from zoo.methods.dreamcub.world_losses import balanced_kl
from zoo.support.decisions import decisions


@pytest.mark.fidelity("dreamcub", 2)
@pytest.mark.parametrize(("alpha", "moves"), [(1.0, "prior"), (0.0, "posterior")])
def test_kl_balancing_says_who_moves(alpha: float, moves: str) -> None:
    q, p = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    balanced_kl(q.log_softmax(-1), p.log_softmax(-1), alpha).sum().backward()
    still, moved = (q, p) if moves == "prior" else (p, q)
    assert moved.grad is not None
    assert moved.grad.abs().max() > 0
    assert still.grad is None or still.grad.abs().max() == 0


def labelled_states(module: Any) -> list[State]:
    """Return both states of a dialogue with the labels of the data."""
    return [module.encoder().state(d) for d in decisions(dialogue(), module.labels)]


def kl_by_hand(module: Any, states: list[State], path: list[int], still: str = "") -> Tensor:
    """Return the sum over states and factors of KL(q || p), both read along one path.

    Args:
        module: Whose q and p.
        states: Which states.
        path: Index of each factor's letter.
        still: `q` or `p`, which then has no gradient.
    """
    encoder, total = module.encoder(), torch.zeros(())
    for state in states:
        pairs = [
            letter_logps(module, ask(state), path) for ask in (encoder.posterior, encoder.prior)
        ]
        for q, p in zip(*pairs, strict=True):
            q, p = q.detach() if still == "q" else q, p.detach() if still == "p" else p
            total = total + (q.exp() * (q - p)).sum()
    return total


def path_beside_gold(module: Any, states: list[State]) -> list[int]:
    """Return a path that has no label of the data."""
    gold = [indices(module.factors, state.belief or ()) for state in states]
    return [
        next(i for i in range(len(factor.labels)) if i not in taken)
        for factor, taken in zip(module.factors, zip(*gold, strict=True), strict=True)
    ]


@pytest.mark.fidelity("dreamcub", 2)
def test_kl_is_read_along_the_path_that_q_has_drawn(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not along the labels of the data, neither in the posterior nor in the prior."""
    module = module_of(make, moved=0.2)
    states = labelled_states(module)
    path = path_beside_gold(module, states)
    monkeypatch.setattr(module.world, "draw", lambda prompts, names: ([path] * len(prompts), []))
    found = module.world.losses(states, {}, names=["a", "b"])["kl"].sum.item()
    with torch.no_grad():
        wanted = kl_by_hand(module, states, path).item()
        gold = [indices(module.factors, state.belief or ()) for state in states]
        other = sum(kl_by_hand(module, [s], g).item() for s, g in zip(states, gold, strict=True))
    assert found == pytest.approx(wanted, rel=1e-4)
    assert abs(other - wanted) > 1e-2 * wanted, "the path makes no difference here"


@pytest.mark.fidelity("dreamcub", 2)
@pytest.mark.parametrize(("balance", "still"), [(1.0, "q"), (0.0, "p")])
def test_the_balance_that_is_set_says_who_learns(
    make: Any, monkeypatch: pytest.MonkeyPatch, balance: float, still: str
) -> None:
    """The gradient is that of KL(sg q || p) at 1 and that of KL(q || sg p) at 0."""
    module = module_of(make, moved=0.2, weights={"balance": balance})
    states = labelled_states(module)
    path = path_beside_gold(module, states)
    monkeypatch.setattr(module.world, "draw", lambda prompts, names: ([path] * len(prompts), []))
    trained = [p for n, p in module.named_parameters() if adapter_of(n) == "world_model"]
    found = torch.autograd.grad(
        module.world.losses(states, {}, names=["a", "b"])["kl"].sum, trained
    )
    wanted = torch.autograd.grad(kl_by_hand(module, states, path, still), trained)
    assert max(float(grad.abs().max()) for grad in wanted) > 1e-3
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.fidelity("dreamcub", 7)
def test_what_is_dreamed_does_not_move_the_world_model(make: Any) -> None:
    """A step on imagined turns: returns come from the reward head and have no gradient to it."""
    schedule = {"policy": 0, "world": 0, "reward": 0, "world_per_cycle": 0}
    module = silence(module_of(make, moved=0.2, horizon=2, schedule=schedule)).train()
    module._trainer = FakeTrainer(0)
    terms = module.learning.losses(batch_of(module, [dialogue()]), 0)
    assert set(terms) == {"policy", "value"}
    total_loss(terms).backward()
    owner = {"reward_head.weight": "world_model", "value_head.weight": "critic"}
    moved = {
        owner.get(name) or adapter_of(name)
        for name, p in module.named_parameters()
        if p.grad is not None and p.grad.any()
    }
    assert moved == {"policy", "critic"}


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
