"""Extra vocabulary heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def copy_of_head(lm: Any) -> nn.Linear:
    """Return an untied copy of the output head: same values, storage of its own, trainable.

    Call it on full weights, before sharding.
    """
    weight = lm.lm_head.weight
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    head.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    return head
