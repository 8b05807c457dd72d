"""Prompts, decoders, heads that go on or end, and a count of the blocks that run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from zoo.decoding.depth_decoder import DepthDecoder

STOP, PAD = 258, 256
PROMPTS = [[5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 2, 1, 11, 12], [100, 42, 17, 3, 90]]


def head(lm: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda states: lm.lm_head(lm.model.norm(states))


def endless(lm: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Logits that never choose the stop token."""

    def project(states: torch.Tensor) -> torch.Tensor:
        logits = head(lm)(states)
        logits[:, STOP] = -torch.inf
        return logits

    return project


@contextmanager
def counted(lm: Any) -> Iterator[Callable[[], int]]:
    """Count blocks x tokens that are run."""
    calls: list[int] = []

    def count(block: Any, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> None:
        calls.append((given[0] if given else named["hidden_states"]).shape[1])

    hooks = [block.register_forward_hook(count, with_kwargs=True) for block in lm.model.layers]
    yield lambda: sum(calls)
    for hook in hooks:
        hook.remove()


def decoder_of(lm: Any, size: int, depths: tuple[int, ...] = (2, 4)) -> DepthDecoder:
    return DepthDecoder(lm, depths, batch_size=size, pad_id=PAD)
