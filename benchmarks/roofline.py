"""Bounds: the least time of some work at the rates that this machine reaches on plain products.

A forward of few tokens is limited by the bytes of the weights it reads, one of many tokens by its
FLOPs. Both rates are measured here and now, so that a bound belongs to the run beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.harness import Sample, Setting

WEIGHTS = 48  # matrices read in turn: more than any cache holds
SIDE = 1536


@dataclass(frozen=True)
class Shape:
    """Parameters that a token is multiplied with.

    Attributes:
        block: Of one block.
        head: Of one vocabulary head.
        vocabulary: Rows of a head.
        blocks: Number of blocks K.
        bytes: Bytes of one parameter.
    """

    block: int
    head: int
    vocabulary: int
    blocks: int
    bytes: int

    @classmethod
    def of(cls, lm: Any) -> Shape:
        """Read the shape of a model."""
        layers = lm.model.layers
        block = sum(p.numel() for p in layers[0].parameters() if p.ndim > 1)
        head = lm.lm_head.weight
        return cls(block, head.numel(), len(head), len(layers), head.element_size())


@dataclass(frozen=True)
class Rates:
    """What the machine reaches.

    Attributes:
        flops: FLOPs per second of products with many rows.
        bytes: Weight bytes per second of products with one row.
    """

    flops: float
    bytes: float

    def seconds(self, flops: float, read: float) -> float:
        """Return the least time of `flops` that are limited by arithmetic and `read` bytes."""
        return flops / self.flops + read / self.bytes


def reply_seconds(
    shape: Shape, found: Rates, prompt: int, thought: int, answer: int, bridge: int
) -> dict[str, float]:
    """Return the least time of a two-pass reply by each way, the thought decoded at block K/2.

    Args:
        shape: The model.
        found: Rates of the machine.
        prompt: Tokens before the thought.
        thought: Tokens of the thought.
        answer: Tokens of the answer.
        bridge: Tokens between thought and answer.
    """
    half, full = shape.blocks // 2, prompt + thought + bridge
    low, high = (n * shape.block * shape.bytes for n in (half, shape.blocks))
    head = shape.head * shape.bytes
    rest = (answer - 1) * high + (thought + answer) * head
    short, long = (thought - 1) * low + rest, (thought - 1) * high + rest
    read = {"ours": short, "reprefill": long, "early_exit": short}  # a prefill gives the first one
    chunks = {  # blocks x tokens that run side by side
        "ours": half * prompt + half * (prompt + thought) + shape.blocks * bridge,
        "reprefill": shape.blocks * (prompt + full),
        "early_exit": half * prompt + shape.blocks * full,
    }
    return {way: found.seconds(2.0 * shape.block * chunks[way], read[way]) for way in read}


def rates(setting: Setting, *, precision: str = "float32") -> Sample:
    """Measure both rates in a process of their own; they are notes of the sample."""
    dtype = getattr(torch, precision)
    weights = [torch.randn(SIDE, SIDE, device=setting.device).to(dtype) for _ in range(WEIGHTS)]
    size = SIDE * SIDE * WEIGHTS
    many, one_row = (torch.randn(n, SIDE, device=setting.device).to(dtype) for n in (512, 1))

    def best(rows: torch.Tensor) -> float:
        return min(_timed(lambda: [rows @ w.t() for w in weights], setting) for _ in range(5))

    notes = {
        "flops": 2 * many.shape[0] * size / best(many),
        "bytes": size * weights[0].element_size() / best(one_row),
    }
    return Sample([], notes=notes)


def _timed(work: Callable[[], Any], setting: Setting) -> float:
    start = time.perf_counter()
    work()
    if setting.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
