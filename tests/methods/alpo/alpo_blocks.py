"""Small blocks of subtitles with scored candidates, written for the tests."""

from __future__ import annotations

import random
from typing import Any

import torch

from zoo.records import ScoredBlock, ScoredSegment, SubtitleBlock

WORDS = ["so", "well", "now", "then", "look", "wait", "come", "go", "yes", "no", "never", "truly"]


def block(segments: int = 3, index: int = 0, *, after: bool = True) -> SubtitleBlock:
    """Return a block of one-line segments with a line of context on each side."""
    return SubtitleBlock(
        source=tuple(f"源 {index} {i}" for i in range(segments)),
        target=tuple(f"Line {index} {i}." for i in range(segments)),
        before=("先",),
        target_before=("Before.",),
        after=("后",) * after,
        target_after=("After.",) * after,
        source_language="zh",
        target_language="en",
        id=f"a.zh:{index}",
        index=index,
    )


def scored(
    scores: list[list[float] | None], index: int = 0, seed: int = 0, *, after: bool = True
) -> ScoredBlock:
    """Return a block whose candidates have these scores; three candidates where there are none."""
    draw, plain = random.Random(seed), block(len(scores), index, after=after)
    segments = []
    for i, values in enumerate(scores):
        count = 3 if values is None else len(values)
        texts = {plain.target[i]: None}
        while len(texts) < count:
            texts[" ".join(draw.choices(WORDS, k=draw.randint(1, 4)))] = None
        candidates = tuple((text,) for text in texts)
        segments.append(ScoredSegment(candidates, None if values is None else tuple(values)))
    return ScoredBlock(plain, tuple(segments))


def prefix(batch: Any, learned: int) -> tuple[int, ...]:
    """Return the token ids above a learned node, read off the mask's table and the slots."""
    at = int(batch.rows[batch.nodes == learned][0])  # the last slot above it
    row, first = divmod(at, batch.input_ids.shape[1])
    nodes = batch.node_ids[row]
    seen = batch.ancestors[row, nodes[first]][nodes]
    return tuple(batch.input_ids[row][seen & (torch.arange(len(seen)) <= first)].tolist())


OPEN = [80.0, 60.0, 70.0, 40.0, 50.0, 30.0]  # six distinct scores
NARROW = [50.0, 51.0, 52.0, 53.0, 54.0]  # a range of 4
FEW = [90.0, 50.0, 10.0]  # three candidates
