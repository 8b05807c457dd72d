"""Extra vocabulary heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zoo.encoding import collate, unlearned
from zoo.nn.blocks import Blocks, place
from zoo.nn.path_check import own_attention


def copy_of_head(lm: Any) -> nn.Linear:
    """Return an untied copy of the output head: same values, storage of its own, trainable.

    Call it on full weights, before sharding.
    """
    weight = lm.lm_head.weight
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    head.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    return head


@torch.no_grad()
def stream_size(lm: Any, k: int, ids: list[int]) -> float:
    """Return the median over tokens of the root mean square of h_k, the stream after k blocks.

    The median, because some models give the first token a state of a size of its own.

    Args:
        lm: A language model with weights.
        k: Blocks below.
        ids: Token ids of a text.
    """
    batch = collate([unlearned(ids)], packed=True).to(lm.device)
    with own_attention(lm):
        states_1LD = Blocks(lm, 0, k)(batch.input_ids, **place(batch))
    return float(states_1LD.float().square().mean(-1).sqrt().median())
