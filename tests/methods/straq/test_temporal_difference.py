"""Q-learning with a target copy on tables: the learned Q is that of value iteration."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.methods.straq.temporal_difference import td_errors, td_targets
from zoo.weight_copy import WeightCopy

STATES, ACTIONS = 5, 3  # a chain; A: leave with a little, B: move on, C: move back at a cost
LITTLE, MUCH, COST = 1.0, 4.0, -0.2


def transitions() -> list[tuple[int, int, float, int, bool]]:
    """Return (state, action, reward, next state, done) of every pair."""
    found = []
    for s in range(STATES):
        found.append((s, 0, LITTLE, s, True))
        last = s == STATES - 1
        found.append((s, 1, MUCH if last else 0.0, min(s + 1, STATES - 1), last))
        found.append((s, 2, COST, max(s - 1, 0), False))
    return found


def value_iteration(gamma: float) -> torch.Tensor:
    q = torch.zeros(STATES, ACTIONS, dtype=torch.float64)
    for _ in range(500):
        new = torch.empty_like(q)
        for s, a, r, after, done in transitions():
            new[s, a] = r + (0.0 if done else gamma * float(q[after].max()))
        q = new
    return q.float()


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Parameter(torch.randn(STATES, ACTIONS))


def learn(gamma: float, sync_every: int, steps: int = 400) -> torch.Tensor:
    """Learn a table by gradient descent on the loss of the method, with its target."""
    table, target = Table(), WeightCopy()
    target.sync(table)
    states, actions, rewards, after, done = (
        torch.tensor(column) for column in zip(*transitions(), strict=True)
    )
    optimizer = torch.optim.SGD(table.parameters(), lr=0.25)
    for step in range(1, steps + 1):
        with target.used(table), torch.no_grad():
            following = table.q[after]
        y = td_targets(rewards, following, done, gamma)
        optimizer.zero_grad()
        td_errors(table.q[states, actions], y).sum().backward()
        optimizer.step()
        if step % sync_every == 0:
            target.sync(table)
    return table.q.detach()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.85])
def test_learned_values_are_those_of_value_iteration(gamma: float) -> None:
    torch.testing.assert_close(learn(gamma, 10), value_iteration(gamma), rtol=0, atol=1e-2)


def test_the_discount_decides_where_to_go() -> None:
    """From the start: on, for what is at the end; or off at once with a little."""
    assert value_iteration(0.85)[0].argmax() == 1  # 4 * 0.85^4 = 2.09 > 1
    assert learn(0.85, 10)[0].argmax() == 1
    assert learn(0.0, 10)[0].argmax() == 0


def test_an_old_target_is_used_between_copies() -> None:
    """With one copy at the start, Q is one backup of the first table, not the fixed point."""
    torch.manual_seed(0)
    first = Table().q.detach().clone()
    torch.manual_seed(0)
    learned = learn(0.85, 10**9)
    for s, a, r, after, done in transitions():
        expected = r + (0.0 if done else 0.85 * float(first[after].max()))
        assert learned[s, a] == pytest.approx(expected, abs=1e-4)


def test_imitation_ranks_like_the_log() -> None:
    """The fixed point with +-1 and the logged next state: 1 / (1 - gamma), and 2 less."""
    gamma, q = 0.85, torch.zeros(1, 2)
    for _ in range(200):
        y = td_targets(torch.tensor([1.0, -1.0]), q.expand(2, 2), torch.tensor([False] * 2), gamma)
        q = y[None]
    torch.testing.assert_close(q, torch.tensor([[1 / 0.15, 1 / 0.15 - 2]]), rtol=1e-4, atol=1e-4)


def test_a_target_is_a_constant() -> None:
    """No gradient reaches the next state's values; that of the error is 2 (Q - y)."""
    following = torch.tensor([[0.1, 0.4]], requires_grad=True)
    y = td_targets(torch.tensor([1.0]), following, torch.tensor([False]), 0.5)
    assert not y.requires_grad
    values, targets = (torch.tensor([x], requires_grad=True) for x in (2.0, 1.5))
    td_errors(values, targets).sum().backward()
    assert values.grad.item() == pytest.approx(1.0)
    assert targets.grad is None
    low = td_errors(torch.tensor([1.0078125]).bfloat16(), torch.tensor([1.0]))
    assert low.dtype == torch.float32
