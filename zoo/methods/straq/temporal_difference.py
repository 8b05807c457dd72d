"""Temporal-difference targets and errors of Q-learning with a target network (DQN, 2015).

    (1)  y = r + gamma (1 - done) max_a' Q_phi(s', a')       a constant: no gradient
    (2)  L = (Q_theta(s, a) - y)^2

Shapes: N transitions, K actions.
"""

from __future__ import annotations

from torch import Tensor


def td_targets(reward_N: Tensor, next_NK: Tensor, done_N: Tensor, gamma: float) -> Tensor:
    """Return y of equation (1), `(N,)`, in float32 and without gradient.

    Args:
        reward_N: r of each transition.
        next_NK: Q_phi(s', a') of every action.
        done_N: True where nothing follows; the values there are not used.
        gamma: Discount, 0 to 1.

    Example:
        >>> import torch
        >>> r, q, done = torch.ones(2), torch.tensor([[0.1, 0.4]] * 2), torch.tensor([False, True])
        >>> [round(y, 2) for y in td_targets(r, q, done, 0.85).tolist()]
        [1.34, 1.0]
    """
    best_N = next_NK.detach().float().amax(1).masked_fill(done_N, 0.0)
    return reward_N.float() + gamma * best_N


def td_errors(values_N: Tensor, targets_N: Tensor) -> Tensor:
    """Return the squared error of equation (2) for each transition, `(N,)`, in float32.

    Args:
        values_N: Q_theta(s, a).
        targets_N: y.
    """
    return (values_N.float() - targets_N.detach()).square()
