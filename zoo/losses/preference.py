"""Direct preference optimisation over log-probabilities of whole answers.

Shapes: S sequences, N supervised rows, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.encoding import NO_HEAD, Batch


def dpo_loss(
    chosen_S: Tensor,
    rejected_S: Tensor,
    reference_chosen_S: Tensor,
    reference_rejected_S: Tensor,
    beta: float = 0.1,
) -> Tensor:
    """Return -log sigmoid(beta [(chosen - ref chosen) - (rejected - ref rejected)]), `(S,)`.

    Args:
        chosen_S: log pi(a+ | x) in nats, summed over the answer's tokens.
        rejected_S: log pi(a- | x).
        reference_chosen_S: log pi_0(a+ | x).
        reference_rejected_S: log pi_0(a- | x).
        beta: Strength of the pull towards the reference, 1 / nats.

    Example:
        >>> zero, shift = torch.zeros(1), torch.tensor([-1.0])
        >>> dpo_loss(shift, shift, shift, shift).item()  # policy = reference: ln 2
        0.6931471824645996
        >>> round(dpo_loss(zero, shift, shift, shift, beta=1.0).item(), 4)  # ln(1 + e^-1)
        0.3133
    """
    shift = (chosen_S - reference_chosen_S) - (rejected_S - reference_rejected_S)
    return -F.logsigmoid(beta * shift.float())


def sequence_log_probs(
    hidden_BLD: Tensor,
    batch: Batch,
    weight_VD: Tensor,
    norm: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the log-probability of each sequence's supervised tokens, `(S,)` in nats.

    The supervised rows alone are projected; their `(N, V)` logits are kept for the backward pass,
    so this is for short answers.

    Args:
        hidden_BLD: States that the head reads.
        batch: Packed or padded; `labels` are the targets, `head_ids` say which rows count.
        weight_VD: The head.
        norm: Applied to the gathered rows before the projection.
    """
    rows_N = (batch.head_ids.flatten() != NO_HEAD).nonzero().squeeze(1)
    hidden_ND = hidden_BLD.flatten(0, 1).index_select(0, rows_N)
    if norm is not None:
        hidden_ND = norm(hidden_ND)
    logits_NV = F.linear(hidden_ND, weight_VD).float()
    labels_N = batch.labels.flatten()[rows_N]
    token_N = -F.cross_entropy(logits_NV, labels_N, reduction="none")
    if batch.offsets is not None:
        sequence_N = torch.bucketize(rows_N, batch.offsets[1:].long(), right=True)
    else:
        sequence_N = rows_N // batch.input_ids.shape[1]
    sums_S = torch.zeros(len(batch.lengths), dtype=token_N.dtype, device=token_N.device)
    return sums_S.index_add(0, sequence_N, token_N)
