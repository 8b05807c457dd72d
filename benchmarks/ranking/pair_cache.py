"""States of one teacher's pairs for all of its students and epochs: every pair is run once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from zoo.methods.rabtriever.frozen_states import FrozenStates, Ids, PairStates


class PairCache(FrozenStates):
    """Keeps the query part's states after each document, before and after a batch is dealt anew.

    Args:
        slot: See `FrozenStates`.
        max_bytes: See `FrozenStates`; the pairs are kept besides.
    """

    def __init__(self, slot: int, max_bytes: float) -> None:
        super().__init__(slot, max_bytes)
        self.seeing: dict[tuple[Ids, Ids], Tensor] = {}  # (head, tail) -> `(T, D)`

    @torch.no_grad()
    def pairs(self, lm: Any, heads: Any, tails: Any, *rest: Any) -> PairStates:
        """Return the states of pairs, as `FrozenStates.pairs` does; only new pairs are run."""
        wanted = list(zip(heads, tails, strict=True))
        new = [pair for pair in dict.fromkeys(wanted) if pair not in self.seeing]
        if new:
            run = [head for head, _ in new], [tail for _, tail in new]
            found = super().pairs(lm, run[0], run[1], *rest)
            for pair, states, real in zip(new, found.seeing, found.real, strict=True):
                self.seeing[pair] = states[real].clone()
        alone = self.alone(lm, tails, *rest)
        seeing = pad_sequence([self.seeing[pair] for pair in wanted], batch_first=True)
        blind = pad_sequence([alone[tail] for tail in tails], batch_first=True)
        last = torch.tensor([len(tail) - 1 for tail in tails], device=seeing.device)
        real = torch.arange(seeing.shape[1], device=last.device) <= last[:, None]
        norm = lm.model.norm
        return PairStates(norm(self.last(lm, heads, *rest)), norm(blind), seeing, real, last)
