"""Read options off the state of a prompt's last token: their logits, and scores made of them.

Shapes: R prompts, D width, V vocabulary, K options.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

ROWS = 8192  # of the head at a time


def option_logits(
    states_RD: Tensor,
    norm: Callable[[Tensor], Tensor],
    weight_VD: Tensor,
    option_ids: Sequence[int],
) -> Tensor:
    """Return the logits of the options alone, `(R, K)`, in float32: K rows of the head, not V.

    Args:
        states_RD: States before the final norm.
        norm: The final norm.
        weight_VD: The head.
        option_ids: Token ids of the options.
    """
    rows_KD = weight_VD[torch.tensor(list(option_ids), device=weight_VD.device)]
    with torch.autocast(states_RD.device.type, enabled=False):
        return norm(states_RD).float() @ rows_KD.float().t()


def option_log_probs(
    states_RD: Tensor,
    norm: Callable[[Tensor], Tensor],
    weight_VD: Tensor,
    option_ids: Sequence[int],
) -> Tensor:
    """Return the log-probabilities of the options, `(R, K)`, in float32, over the vocabulary.

    The arguments are those of `option_logits`. The head is read in pieces, so that neither a
    float32 copy of it nor the logits of all tokens are in memory at once.
    """
    options_RK = option_logits(states_RD, norm, weight_VD, option_ids)
    with torch.autocast(states_RD.device.type, enabled=False):
        ends_RD = norm(states_RD).float()
        sums = [(ends_RD @ part.float().t()).logsumexp(1) for part in weight_VD.split(ROWS)]
        return options_RK - torch.stack(sums, 1).logsumexp(1, keepdim=True)


def relevance_score(logits_RK: Tensor) -> Tensor:
    """Return the log-odds l_T - l_F, `(R,)`, from the logits of true and false, `(R, 2)`.

    They rank as sigmoid(l_T - l_F) does, but for ties: in float64 it is 1 from 37 on.
    """
    return (logits_RK[:, 0] - logits_RK[:, 1]).cpu().double()


def literal_score(log_probs_RK: Tensor) -> Tensor:
    """Return -log P(T) / (log P(T) + log P(F)), `(R,)`: the printed ratio, its sign turned.

    The ratio itself falls as P(T) rises: 0.956, 0.5, 0.044 at P(T) = 0.1, 0.5, 0.9 and
    P(F) = 1 - P(T).
    """
    return (-log_probs_RK[:, 0] / log_probs_RK.sum(1)).cpu().double()
