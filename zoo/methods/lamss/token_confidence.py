"""How sure a decoding was of its tokens: their probabilities and the entropies they came from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Seen = tuple[list[float], list[float]]
"""log p in nats and entropy in [0, 1] of each token of a row."""


class Watch:
    """Observer of `DepthDecoder.decode` that keeps two numbers per step and row, not the logits.

    Both are of the softmax over the whole vocabulary, also where only some tokens were allowed.
    """

    def __init__(self) -> None:
        self.steps: list[Tensor] = []  # (2, B) each

    def __call__(self, logits_BV: Tensor, token_B: Tensor) -> None:
        """Keep log p of the tokens picked, and the entropy as a share of ln V."""
        logp_BV = logits_BV.detach().float().log_softmax(-1)
        picked_B = logp_BV.gather(1, token_B[:, None])[:, 0]
        entropy_B = torch.special.entr(logp_BV.exp()).sum(-1) / math.log(logp_BV.shape[1])
        self.steps.append(torch.stack([picked_B, entropy_B]))

    def rows(self, ids: Sequence[Sequence[int]]) -> list[Seen]:
        """Return log p and entropy of each token of each row.

        The stop token counts as a token of the rows that have one.

        Args:
            ids: What `decode` returned.
        """
        table = torch.stack(self.steps, 1).cpu()  # (2, T, B)
        found = []
        for i, row in enumerate(ids):
            logp, entropy = table[:, : len(row) + 1, i].tolist()
            found.append((logp, [min(1.0, max(0.0, value)) for value in entropy]))
        return found


def chance_of_other(logp: float) -> float:
    """Return 1 - exp(log p), in [0, 1] also where log p is rounded above 0."""
    return -math.expm1(min(0.0, logp))


def shades(
    tokenizer: Any, ids: Sequence[Sequence[int]], seen: Sequence[Seen]
) -> list[tuple[tuple[str, float], ...]]:
    """Return the text and 1 - p of each token of each row, the stop token left out."""
    return [
        tuple(
            (tokenizer.decode([token]), chance_of_other(logp))
            for token, logp in zip(row, logps, strict=False)
        )
        for row, (logps, _) in zip(ids, seen, strict=True)
    ]
