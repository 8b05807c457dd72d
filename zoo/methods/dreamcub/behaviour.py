"""Behaviour learning: returns of imagined turns, and the losses of policy and critic.

    G_k = r_k + gamma c_k [(1 - lambda) V(s_{k+1}) + lambda G_{k+1}],   G_H = V(s_H)
    L_pi = -mean over turns (1/|a|) sum_j min(rho_j A, clip(rho_j, 1 +- eps) A)
    L_V  = 1/2 mean max((V - G)^2, (V_old + clip(V - V_old, +- eps_v) - G)^2)

Shapes: H turns, N dialogues, T tokens of all replies, R replies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass
class Buffer:
    """Turns to learn from; each has a prompt, a reply and four numbers.

    Attributes:
        prompts: Token ids of each state, R of them.
        replies: Token ids of each reply.
        old_logp: log pi of the replies' tokens when they were written, end to end.
        old_values: V of each state then.
        returns: G of each turn.
        advantages: Normalised G - V.
    """

    prompts: list[list[int]]
    replies: list[list[int]]
    old_logp: Tensor
    old_values: Tensor
    returns: Tensor
    advantages: Tensor

    def __len__(self) -> int:
        """Return the number of turns."""
        return len(self.replies)

    def part(self, rows: Sequence[int]) -> Buffer:
        """Return some of the turns."""
        pieces = self.old_logp.split([len(reply) for reply in self.replies])
        index = torch.tensor(rows, device=self.returns.device)
        return Buffer(
            [self.prompts[i] for i in rows],
            [self.replies[i] for i in rows],
            torch.cat([pieces[i] for i in rows]),
            *(value[index] for value in (self.old_values, self.returns, self.advantages)),
        )

    def state(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def of(cls, state: Mapping[str, Any], device: torch.device) -> Buffer:
        """Return what `state` described."""
        moved: dict[str, Any] = {
            n: v.to(device) if isinstance(v, Tensor) else v for n, v in state.items()
        }
        return cls(**moved)


def lambda_returns(
    rewards_HN: Tensor,
    next_values_HN: Tensor,
    gamma: float,
    lam: float,
    goes_on_HN: Tensor | None = None,
) -> Tensor:
    """Return G of every turn, `(H, N)`.

    Args:
        rewards_HN: r_0 ... r_{H-1}.
        next_values_HN: V(s_1) ... V(s_H).
        gamma: Discount of a turn.
        lam: 0 is one-step TD, 1 the discounted sum of rewards with V(s_H) behind it.
        goes_on_HN: 0 where the dialogue ends after a turn, else 1; None for ones.

    Example:
        >>> rewards, values = torch.tensor([[1.0], [0.5]]), torch.tensor([[0.2], [0.4]])
        >>> lambda_returns(rewards, values, gamma=0.9, lam=0.95).flatten()
        tensor([1.7443, 0.8600])
    """
    goes_on_HN = torch.ones_like(rewards_HN) if goes_on_HN is None else goes_on_HN
    following_N = next_values_HN[-1]  # G_H
    returns = []
    for k in reversed(range(len(rewards_HN))):
        ahead_N = (1 - lam) * next_values_HN[k] + lam * following_N
        following_N = rewards_HN[k] + gamma * goes_on_HN[k] * ahead_N
        returns.append(following_N)
    return torch.stack(returns[::-1])


def normalized(advantages: Tensor, learned: Tensor | None = None) -> Tensor:
    """Return advantages with mean 0 and standard deviation 1 over a buffer; of one turn, as it is.

    Args:
        advantages: Of any shape.
        learned: Which of them count, bool; None for all.
    """
    counted = advantages if learned is None else advantages[learned]
    if counted.numel() < 2:
        return advantages
    return (advantages - counted.mean()) / (counted.std(correction=0) + 1e-8)


def policy_loss(
    logp_T: Tensor, old_logp_T: Tensor, advantages_R: Tensor, lengths: list[int], clip: float
) -> Tensor:
    """Return L_pi of each reply, `(R,)`: the mean over its tokens, which share its advantage.

    Args:
        logp_T: log pi of the replies' tokens now, end to end, in nats.
        old_logp_T: The same when they were written.
        advantages_R: Of each reply.
        lengths: Tokens of each reply, at least one.
        clip: eps.
    """
    reply_T = reply_of(lengths, logp_T.device)
    ratio_T = (logp_T - old_logp_T).exp()
    gain_T = advantages_R[reply_T]
    clipped_T = ratio_T.clamp(1 - clip, 1 + clip)
    loss_T = -torch.minimum(ratio_T * gain_T, clipped_T * gain_T)
    return means(loss_T, lengths)


def value_loss(values_R: Tensor, old_values_R: Tensor, returns_R: Tensor, clip: float) -> Tensor:
    """Return L_V of each state, `(R,)`."""
    clipped_R = old_values_R + (values_R - old_values_R).clamp(-clip, clip)
    return 0.5 * torch.maximum((values_R - returns_R) ** 2, (clipped_R - returns_R) ** 2)


def means(values_T: Tensor, lengths: list[int]) -> Tensor:
    """Return the mean over the tokens of each reply, `(R,)`."""
    return sums(values_T, lengths) / torch.tensor(lengths, device=values_T.device)


def sums(values_T: Tensor, lengths: list[int]) -> Tensor:
    """Return the sum over the tokens of each reply, `(R,)`."""
    return values_T.new_zeros(len(lengths)).index_add(
        0, reply_of(lengths, values_T.device), values_T
    )


def reply_of(lengths: list[int], device: torch.device) -> Tensor:
    """Return which reply each token belongs to, `(T,)`."""
    counts = torch.tensor(lengths, device=device)
    return torch.arange(len(lengths), device=device).repeat_interleave(counts)
