"""Short texts of a small taxonomy, training on them, and a recorder of what blocks run."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from methods.hdlm.hdlm_reference import TWO
from training import batch_of, learn

from zoo.records import LabelPath


def plans_of(module: Any, records: Sequence[Any]) -> list[Any]:
    return [plan for record in records for plan in module.encoder().plans(record)]


class Recorder:
    """Records the tokens that each block is given, the logits of each level, the decoded ids."""

    def __init__(self, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from zoo.decoding.depth_decoder import DepthDecoder

        self.tokens: Counter[int] = Counter()
        self.after: list[Counter[int]] = []  # tokens of each block once a level is decoded
        self.logits: list[list[torch.Tensor]] = [[] for _ in range(module.depth)]
        self.decoded: list[list[list[int]]] = []
        self.hooks = [
            block.register_forward_hook(
                lambda _, inputs, __, j=j: self.tokens.update({j: inputs[0].shape[1]})
            )
            for j, block in enumerate(module.lm.model.layers)
        ]
        project, decode = module.logits, DepthDecoder.decode

        def logits(level: int, states: torch.Tensor) -> torch.Tensor:
            self.logits[level].append(project(level, states))
            return self.logits[level][-1]

        def recorded(decoder: Any, *args: Any, **kwargs: Any) -> list[list[int]]:
            self.decoded.append(decode(decoder, *args, **kwargs))
            self.after.append(self.tokens.copy())
            return self.decoded[-1]

        monkeypatch.setattr(module, "logits", logits)
        monkeypatch.setattr(DepthDecoder, "decode", recorded)

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()


STEPS = 600
AREAS = ("eye", "ear", "leg", "toe", "tax", "will", "oil", "ink", "clay")
MARKS = dict(zip(AREAS, "QWZXKJVBF", strict=True))


def abstracts() -> list[LabelPath]:
    """54 texts: the mark of their area among letters that say nothing."""
    rng = random.Random(0)
    found = []
    for domain in TWO.children[()]:
        for area in TWO.children[domain,]:
            for i in range(6):
                parts = [MARKS[area] * 16, *rng.sample("abcdefgh", 3)]
                rng.shuffle(parts)
                found.append(LabelPath("".join(parts), (domain, area), TWO, id=f"{area}:{i}"))
    return found


def shuffled(module: Any, records: Sequence[LabelPath], size: int) -> Iterator[Any]:
    rng = random.Random(0)
    while True:
        order = rng.sample(list(records), len(records))
        for start in range(0, len(order) - size + 1, size):
            yield batch_of(module, order[start : start + size])


def train(module: Any, batches: Iterator[Any], steps: int, lr: float) -> list[list[float]]:
    """Train with warm-up and linear decay; return the mean of each level at every step."""
    history = learn(
        *(module, batches, steps),
        lambda step: lr * min((step + 1) / 10, 1.0, 1.5 * (1 - step / steps)),
    )
    return [list(terms.values()) for terms in history]
