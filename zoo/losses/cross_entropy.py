"""Cross-entropy of a linear vocabulary head without the (tokens x vocabulary) tensor.

Supervised rows are gathered per head before they are projected, so several heads together cost what
one ordinary head costs. The gradient of hidden states and head is computed in the forward pass
while a chunk's logits are alive; nothing is recomputed and no logits are kept. Rows per chunk come
from a memory budget: everything in one chunk when it fits (small matrix products are slow), else
chunks of one size. A head that learns has a float32 gradient anyway, and a sum over chunks costs as
much again, so its logits may be as large. The matrix products run in the type of the hidden states,
softmax in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.encoding import Batch

LOGITS_BUDGET = 128 * 2**20  # bytes of a chunk's logits
LARGEST_BUDGET = 512 * 2**20  # the same at most, where a large head learns
VOCABULARY_BLOCK = 2**14  # rows of a head whose gradient is added up at a time
SOFTMAX_ROWS = 128  # rows of float32 softmax at a time on a CPU: more fall out of its cache
SOFTMAX_BYTES = 128 * 2**20  # of float32 softmax at a time elsewhere


class Term(NamedTuple):
    """A loss term of one batch.

    Attributes:
        sum: Weighted sum of token losses in nats, scalar with gradient.
        weight: The supervised weight it sums over in this batch.
        normalizer: What `sum` is divided by in the objective (see `Batch.normalizers`).
    """

    sum: Tensor
    weight: Tensor
    normalizer: float = 1.0

    @property
    def loss(self) -> Tensor:
        """The term's share of the objective, with gradient."""
        return self.sum / self.normalizer

    @property
    def mean(self) -> Tensor:
        """Loss per unit of weight in nats, without gradient; 0 where nothing is supervised."""
        return self.sum.detach() / self.weight.clamp_min(1e-12)


def total_loss(terms: Mapping[str, Term], weights: Mapping[str, float] | None = None) -> Tensor:
    """Return sum_i weights[i] * terms[i].loss; every weight is 1 by default."""
    parts = [
        term.loss * (1.0 if weights is None else weights[name]) for name, term in terms.items()
    ]
    return torch.stack(parts).sum()


def linear_cross_entropy(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    labels_N: Tensor,
    weights_N: Tensor | None = None,
    *,
    budget: int | None = None,
) -> Tensor:
    """Return sum_n w_n * -log softmax(W h_n)[y_n] in nats, as a float32 scalar.

    Args:
        hidden_ND: States to project, `(N, D)`.
        weight_VD: Head, `(V, D)`.
        labels_N: Targets, `(N,)`, every one a valid token.
        weights_N: Weight of each row, `(N,)`; None for ones.
        budget: Bytes that the logits of a chunk may take; None for what suits the head.

    Example:
        >>> h, w = torch.zeros(3, 2), torch.zeros(4, 2)
        >>> round(linear_cross_entropy(h, w, torch.tensor([0, 1, 2])).item(), 4)  # 3 ln 4
        4.1589
    """
    if weights_N is None:
        weights_N = torch.ones(len(labels_N), device=labels_N.device)
    if hidden_ND.shape[0] == 0:  # keep the graph connected: DDP and FSDP wait for these gradients
        return (hidden_ND.sum() * 0 + weight_VD.flatten()[0] * 0).float()
    hidden_ND, weight_VD, rows, needs = prepare_chunks(hidden_ND, weight_VD, budget)
    return _LinearCrossEntropy.apply(hidden_ND, weight_VD, labels_N, weights_N.float(), rows, needs)


def prepare_chunks(
    hidden_ND: Tensor, weight_VD: Tensor, budget: int | None
) -> tuple[Tensor, Tensor, int, tuple[bool, bool]]:
    """Return states and head in autocast's type, rows per chunk, and which of the two learn.

    There is a row at least.
    """
    if torch.is_autocast_enabled(hidden_ND.device.type):
        dtype = torch.get_autocast_dtype(hidden_ND.device.type)
        hidden_ND, weight_VD = hidden_ND.to(dtype), weight_VD.to(dtype)
    learning = torch.is_grad_enabled()
    needs = (learning and hidden_ND.requires_grad, learning and weight_VD.requires_grad)
    if budget is None:
        gradient = 4 * weight_VD.numel() if needs[1] else 0  # bytes in float32
        budget = min(max(LOGITS_BUDGET, gradient), LARGEST_BUDGET)
    rows = max(1, budget // (weight_VD.element_size() * weight_VD.shape[0]))
    rows = math.ceil(len(hidden_ND) / math.ceil(len(hidden_ND) / rows))  # chunks of one size
    return hidden_ND, weight_VD, rows, needs


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        labels_N: Tensor,
        weights_N: Tensor,
        rows: int,
        needs: tuple[bool, bool],
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        grad_hidden = torch.empty_like(hidden_ND) if needs[0] else None
        grad_weight: Tensor | None = None
        num_rows = hidden_ND.shape[0]
        # With several chunks the head's gradient is summed in float32.
        wide = torch.promote_types(weight_VD.dtype, torch.float32)
        sum_dtype = weight_VD.dtype if num_rows <= rows else wide
        for start in range(0, num_rows, rows):
            part = slice(start, start + rows)
            hidden, labels, weights = hidden_ND[part], labels_N[part], weights_N[part, None]
            logits = hidden @ weight_VD.t()
            total += (nll_in_place(logits, labels, keep=any(needs)) * weights[:, 0]).sum()
            if grad_hidden is not None:
                grad_hidden[part] = (logits @ weight_VD) * weights
            if needs[1]:
                weighted = (hidden * weights).to(hidden.dtype)
                grad_weight = plus_product(grad_weight, logits, weighted, sum_dtype)
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight_VD.dtype)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [None if g is None else g * grad_total for g in ctx.saved_tensors]
        return scaled[0], scaled[1], None, None, None, None


def plus_product(
    total_VD: Tensor | None, logits_NV: Tensor, hidden_ND: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return logits^T hidden, added in place to the sum so far if there is one.

    Args:
        total_VD: The sum so far, of type `dtype`; it is changed.
        logits_NV: Softmax - onehot of a chunk.
        hidden_ND: Its states.
        dtype: Type of a new sum.
    """
    if total_VD is None:
        if dtype == logits_NV.dtype:
            return logits_NV.t() @ hidden_ND
        shape = (logits_NV.shape[1], hidden_ND.shape[1])
        total_VD = torch.zeros(shape, dtype=dtype, device=logits_NV.device)
    for start in range(0, len(total_VD), VOCABULARY_BLOCK):
        part = slice(start, start + VOCABULARY_BLOCK)
        total_VD[part] += logits_NV[:, part].t() @ hidden_ND
    return total_VD


def nll_in_place(logits: Tensor, labels: Tensor, *, keep: bool) -> Tensor:
    """Return -log softmax(logits)[label]; `logits` becomes softmax - onehot if `keep`."""
    on_cpu = logits.device.type == "cpu"
    step = SOFTMAX_ROWS if on_cpu else max(1, SOFTMAX_BYTES // (4 * logits.shape[1]))
    wide = torch.promote_types(logits.dtype, torch.float32)
    losses = []
    for start in range(0, len(labels), step):
        part = slice(start, start + step)
        logp = torch.log_softmax(logits[part], 1, dtype=wide)
        picked = labels[part, None]
        losses.append(-logp.gather(1, picked)[:, 0])
        if keep:
            probability = logp.exp_()
            probability.scatter_add_(1, picked, -torch.ones_like(picked, dtype=wide))
            logits[part] = probability
    return torch.cat(losses)


def head_loss(
    hidden_BLD: Tensor,
    batch: Batch,
    head: int,
    weight_VD: Tensor,
    norm: Callable[[Tensor], Tensor] | None = None,
) -> Term:
    """Cross-entropy of one head over the tokens that this head learns.

    Args:
        hidden_BLD: States that the head reads, `(B, L, D)`.
        batch: The batch; `head_ids` says which rows are this head's.
        head: Index of the head.
        weight_VD: The head's weight, `(V, D)`.
        norm: Applied to the gathered rows before the projection.
    """
    rows = (batch.head_ids.flatten() == head).nonzero().squeeze(1)
    hidden_ND = hidden_BLD.flatten(0, 1).index_select(0, rows)
    if norm is not None:
        hidden_ND = norm(hidden_ND)
    weights_N = batch.weights.flatten()[rows]
    total = linear_cross_entropy(hidden_ND, weight_VD, batch.labels.flatten()[rows], weights_N)
    return Term(total, weights_N.sum(), batch.normalizers.get(head, 1.0))
