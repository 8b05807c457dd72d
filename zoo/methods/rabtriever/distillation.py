"""Distillation of states and of a distribution over a vocabulary.

Shapes: R pairs, T slots, D width, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class StateComparison(NamedTuple):
    """States of some pairs from student and teacher.

    Attributes:
        predicted: What the student makes of them, `(R, T, D)`.
        wanted: The teacher's, `(R, T, D)`.
        real: Which slots are tokens, `(R, T)`.
        last: Slot of each query part's last token, `(R,)`.
    """

    predicted: Tensor
    wanted: Tensor
    real: Tensor
    last: Tensor

    def ends(self) -> tuple[Tensor, Tensor]:
        """Return predicted and wanted state of each last token, `(R, D)` each."""
        rows = torch.arange(len(self.last), device=self.last.device)
        return self.predicted[rows, self.last], self.wanted[rows, self.last]


def state_errors(views: StateComparison, *, last: bool = False) -> Tensor:
    """Return the squared error of each real position, `(N,)`: the mean over the width.

    Args:
        views: Predicted and wanted states.
        last: Look at each pair's last position only, `(R,)`.
    """
    if last:
        predicted, wanted = views.ends()
        return (predicted - wanted).square().mean(1)
    return (views.predicted - views.wanted).square().mean(2)[views.real]


def head_divergence(views: StateComparison, weight_VD: Tensor, *, forward: bool = False) -> Tensor:
    """Return KL(P_student || P_teacher) at each pair's last position in nats, `(R,)`.

    Args:
        views: Predicted and wanted states.
        weight_VD: The head, which both share.
        forward: Return KL(P_teacher || P_student) instead.
    """
    student, teacher = (F.linear(ends.to(weight_VD.dtype), weight_VD) for ends in views.ends())
    return divergence(teacher, student) if forward else divergence(student, teacher)


def divergence(from_RV: Tensor, to_RV: Tensor) -> Tensor:
    """Return KL(P_from || P_to) of each row in nats, `(R,)`: an exact sum over the vocabulary.

    Args:
        from_RV: Logits; the expectation is taken under them.
        to_RV: Logits.

    Example:
        >>> p, q = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5]]).log()
        >>> round(divergence(p, q).item(), 4), round(divergence(q, p).item(), 4)
        (0.3681, 0.5108)
    """
    source, target = from_RV.float().log_softmax(1), to_RV.float().log_softmax(1)
    return (source.exp() * (source - target)).sum(1)
