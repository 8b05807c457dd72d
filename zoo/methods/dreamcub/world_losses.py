"""What the dialogue world model learns, as functions of log-probabilities.

    L = lambda_b L_bel + lambda_o L_obs + lambda_r L_rew + beta L_KL + lambda_p L_prior
    L_bel   = -log q(b*_t | h_t, o_t)                       sum over the known factors
    L_obs   = -(1/|o_t|) log p(o_t | h_t, b*_t)
    L_rew   = -log sigmoid(r(a+) - r(a-)), or 1/2 (r - r_t)^2 where an environment graded
    L_KL    = sum over known factors of alpha KL(sg q || p) + (1 - alpha) KL(q || sg p),
              both along a path of letters that is sampled from q
    L_prior = -log p(b*_t | h_t)                            the same

All are means over states, of grades over those that a user rated.

Shapes: S states, F factors, K labels of a factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.losses.cross_entropy import Term


@dataclass(frozen=True, slots=True)
class WorldWeights:
    """Weights of the world model's losses.

    Attributes:
        belief: lambda_b.
        observation: lambda_o; 0 leaves it out.
        reward: lambda_r.
        kl: beta; 0 leaves the KL out, and the prior learns nothing from it.
        prior: lambda_p; with labels it equals the KL of a delta posterior, so keep one small.
        balance: alpha, share of the KL that moves the prior.
    """

    belief: float = 1.0
    observation: float = 1.0
    reward: float = 1.0
    kl: float = 1.0
    prior: float = 0.0
    balance: float = 0.8

    def of_terms(self) -> dict[str, float]:
        """Return the weight of every loss term of the method by name."""
        return {
            **dict.fromkeys(("speak", "policy", "value", "dpo"), 1.0),
            **dict.fromkeys(("observation", "met"), self.observation),
            **dict.fromkeys(("reward", "graded"), self.reward),
            **{"belief": self.belief, "kl": self.kl, "prior": self.prior},
        }


def balanced_kl(q_SK: Tensor, p_SK: Tensor, alpha: float) -> Tensor:
    """Return alpha KL(sg q || p) + (1 - alpha) KL(q || sg p) in nats, `(S,)`.

    Args:
        q_SK: Log-probabilities of the posterior.
        p_SK: Those of the prior.
        alpha: Share that moves the prior.
    """
    return alpha * kl(q_SK.detach(), p_SK) + (1 - alpha) * kl(q_SK, p_SK.detach())


def kl(q_SK: Tensor, p_SK: Tensor) -> Tensor:
    """Return KL(q || p) of log-probabilities in nats, `(S,)`."""
    return (q_SK.exp() * (q_SK - p_SK)).sum(-1)


def label_term(logps: Sequence[Tensor], gold_SF: Tensor, normalizer: float) -> Term:
    """Return -log of the joint probability of the known labels, summed over states, in nats.

    Args:
        logps: Log-probabilities of each factor, F tensors `(S, K)`.
        gold_SF: Index of each label; -1 where it is not known, which adds nothing.
        normalizer: States of the whole step.
    """
    known_SF = gold_SF >= 0
    picked = [
        logp.gather(1, gold_SF[:, i : i + 1].clamp_min(0))[:, 0] for i, logp in enumerate(logps)
    ]
    nll_SF = -torch.stack(picked, 1) * known_SF
    return Term(nll_SF.sum(), known_SF.any(1).sum().float(), normalizer)


def kl_term(
    q: Sequence[Tensor], p: Sequence[Tensor], gold_SF: Tensor, normalizer: float, alpha: float
) -> Term:
    """Return the sum over the known factors of the balanced KL."""
    each = [balanced_kl(*pair, alpha) for pair in zip(q, p, strict=True)]
    known_SF = gold_SF >= 0
    total = (torch.stack(each, 1) * known_SF).sum()
    return Term(total, known_SF.any(1).sum().float(), normalizer)
