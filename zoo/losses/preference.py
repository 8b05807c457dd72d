"""Direct preference optimisation over log-probabilities of whole answers.

Only the rows that predict an answer's tokens are projected, in chunks within a memory budget. Where
one chunk holds all and the head learns, its logits are kept for the backward pass. The matrix
products run in the type of the hidden states, softmax in float32 (float64 for float64 states).

Shapes: S sequences, N supervised rows, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.encoding import NO_HEAD, Batch
from zoo.losses.cross_entropy import nll_in_place, plus_product, prepare_chunks
from zoo.trees import TreeBatch


def dpo_loss(
    chosen_S: Tensor,
    rejected_S: Tensor,
    reference_chosen_S: Tensor,
    reference_rejected_S: Tensor,
    beta: float | Tensor = 0.1,
) -> Tensor:
    """Return -log sigmoid(beta [(chosen - ref chosen) - (rejected - ref rejected)]), `(S,)`.

    Args:
        chosen_S: log pi(a+ | x) in nats, summed over the answer's tokens.
        rejected_S: log pi(a- | x).
        reference_chosen_S: log pi_0(a+ | x).
        reference_rejected_S: log pi_0(a- | x).
        beta: Strength of the pull towards the reference, 1 / nats; one for all, or `(S,)`.

    Example:
        >>> zero, shift = torch.zeros(1), torch.tensor([-1.0])
        >>> dpo_loss(shift, shift, shift, shift).item()  # policy = reference: ln 2
        0.6931471824645996
        >>> round(dpo_loss(zero, shift, shift, shift, beta=1.0).item(), 4)  # ln(1 + e^-1)
        0.3133
    """
    shift = (chosen_S - reference_chosen_S) - (rejected_S - reference_rejected_S)
    wide = torch.promote_types(shift.dtype, torch.float32)
    return -F.logsigmoid(beta * shift.to(wide))


def sequence_log_probs(
    hidden_BLD: Tensor,
    batch: Batch,
    weight_VD: Tensor,
    norm: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the log-probability of each sequence's supervised tokens, `(S,)` in nats.

    Args:
        hidden_BLD: States that the head reads.
        batch: Packed or padded; `labels` are the targets, `head_ids` say which rows count.
        weight_VD: The head.
        norm: Applied to the gathered rows before the projection.
    """
    rows_N = (batch.head_ids.flatten() != NO_HEAD).nonzero().squeeze(1)
    if batch.offsets is not None:
        sequence_N = torch.bucketize(rows_N, batch.offsets[1:].long(), right=True)
    else:
        sequence_N = rows_N // batch.input_ids.shape[1]
    labels_N = batch.labels.flatten()[rows_N]
    token_N = _token_log_probs(hidden_BLD, rows_N, labels_N, weight_VD, norm)
    return _sums(token_N, sequence_N, len(batch.lengths))


def node_log_probs(
    hidden_BLD: Tensor,
    tree: TreeBatch,
    weight_VD: Tensor,
    norm: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return log p(node | the nodes above it) of each learned node of trees, `(S,)` in nats.

    Args:
        hidden_BLD: States that the head reads, of a pass under `zoo.trees.tree_mask`.
        tree: The trees; their learned nodes are counted in order.
        weight_VD: The head.
        norm: Applied to the gathered rows before the projection.
    """
    token_N = _token_log_probs(hidden_BLD, tree.rows, tree.labels, weight_VD, norm)
    return _sums(token_N, tree.nodes, tree.num_learned)


def _token_log_probs(
    hidden_BLD: Tensor, rows_N: Tensor, labels_N: Tensor, weight_VD: Tensor, norm: Any
) -> Tensor:
    """Return the log-probability of the token that each row predicts, `(N,)`."""
    hidden_ND = hidden_BLD.flatten(0, 1).index_select(0, rows_N)
    return linear_log_probs(hidden_ND if norm is None else norm(hidden_ND), weight_VD, labels_N)


def _sums(token_N: Tensor, sequence_N: Tensor, count: int) -> Tensor:
    return token_N.new_zeros(count).index_add(0, sequence_N, token_N)


def linear_log_probs(
    hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor, *, budget: int | None = None
) -> Tensor:
    """Return log softmax(W h_n)[y_n] in nats, `(N,)`.

    A frozen head's gradient is not needed, and that of the states is computed in the forward pass.
    A head that learns has its chunks computed again in the backward pass, unless one holds all.

    Args:
        hidden_ND: States to project.
        weight_VD: Head.
        labels_N: Targets, every one a valid token.
        budget: Bytes that the logits of a chunk may take; None for what suits the head.

    Example:
        >>> linear_log_probs(torch.zeros(1, 2), torch.zeros(4, 2), torch.tensor([3])).exp()
        tensor([0.2500])
    """
    if hidden_ND.shape[0] == 0:  # keep the graph connected: DDP and FSDP wait for these gradients
        return hidden_ND.sum(1) + weight_VD.flatten()[0] * 0
    hidden_ND, weight_VD, rows, needs = prepare_chunks(hidden_ND, weight_VD, budget)
    return _LinearLogProbs.apply(hidden_ND, weight_VD, labels_N, rows, needs)


class _LinearLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        rows: int,
        needs: tuple[bool, bool],
    ) -> Tensor:
        frozen_head = needs[0] and not needs[1]
        one_chunk = needs[1] and len(hidden_ND) <= rows
        slopes_ND = torch.empty_like(hidden_ND) if frozen_head else None
        kept = None  # softmax - onehot of all rows
        values = []
        for start in range(0, len(hidden_ND), rows):
            part = slice(start, start + rows)
            logits = hidden_ND[part] @ weight_VD.t()
            values.append(-nll_in_place(logits, labels_N[part], keep=frozen_head or one_chunk))
            if slopes_ND is not None:
                slopes_ND[part] = logits @ weight_VD
            kept = logits if one_chunk else None
        ctx.rows, ctx.needs = rows, needs
        given = (None, None) if frozen_head or not any(needs) else (hidden_ND, weight_VD)
        ctx.save_for_backward(*given, labels_N, slopes_ND, kept)
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, weight_VD, labels_N, slopes_ND, kept = ctx.saved_tensors
        if slopes_ND is not None:
            return slopes_ND * -grad_N[:, None].to(slopes_ND.dtype), None, None, None, None
        grad_hidden = torch.empty_like(hidden_ND) if ctx.needs[0] else None
        grad_weight: Tensor | None = None
        wide = torch.promote_types(weight_VD.dtype, torch.float32)
        sum_dtype = weight_VD.dtype if kept is not None else wide
        for start in range(0, len(hidden_ND), ctx.rows):
            part = slice(start, start + ctx.rows)
            logits = kept
            if logits is None:
                logits = hidden_ND[part] @ weight_VD.t()
                nll_in_place(logits, labels_N[part], keep=True)
            scale = -grad_N[part, None].to(logits.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = (logits @ weight_VD) * scale
            scaled = hidden_ND[part] * scale
            grad_weight = plus_product(grad_weight, logits, scaled, sum_dtype)
        assert grad_weight is not None
        return grad_hidden, grad_weight.to(weight_VD.dtype), None, None, None
