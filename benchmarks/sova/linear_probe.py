"""What a linear model reads off the words of a dilemma: how much there is to learn.

Logistic regression on a sentence encoder's vectors of the situation and of both actions, with an L2
penalty. A trained agent that stays below it has learned too little; one at its height has learned
what similarity of texts tells.

Shapes: N dilemmas, F features (three vectors of a dilemma, end to end).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.methods.sova.expected import Rule, expected_action
from zoo.methods.sova.sentence_encoder import Encoder
from zoo.records import TO_DO, Dilemma

PENALTY = 1e-3  # times the squared length of the weights; not searched
STEPS = 300  # of L-BFGS, at most


def log_odds(
    encoder: Encoder, taught: Sequence[Dilemma], asked: Sequence[Dilemma], rule: Rule
) -> list[float]:
    """Return the log-odds of `to do` for each dilemma that is asked, learned from the others."""
    weights, bias = fitted(features(encoder, taught), expected(taught, rule))
    return (features(encoder, asked) @ weights + bias).tolist()


def features(encoder: Encoder, dilemmas: Sequence[Dilemma]) -> Tensor:
    """Return `(N, F)`: the situation, the action and its opposite."""
    texts = zip(*((d.situation, d.to_do.text, d.not_to_do.text) for d in dilemmas), strict=True)
    return torch.cat([encoder.embed(list(column)) for column in texts], dim=1)


def expected(dilemmas: Sequence[Dilemma], rule: Rule) -> Tensor:
    """Return `(N,)`: 1 where the rule expects that it is done."""
    return torch.tensor([float(expected_action(d, rule) == TO_DO) for d in dilemmas])


def fitted(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights `(F,)` and the bias of the penalised logistic regression."""
    weights = torch.zeros(inputs.shape[1], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=STEPS)

    def loss() -> float:
        optimizer.zero_grad()
        logits = inputs @ weights + bias
        found = F.binary_cross_entropy_with_logits(logits, labels)
        found = found + PENALTY * weights.square().sum()
        found.backward()
        return found.item()

    optimizer.step(loss)
    return weights.detach(), bias.detach()
