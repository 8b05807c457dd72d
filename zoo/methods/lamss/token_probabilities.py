"""Probability of given tokens, padding-free, without the (tokens x vocabulary) tensor.

Level tokens are no words: a probability is a share of the ordinary tokens, the levels left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.decoding.batching import BUDGET, chunks
from zoo.encoding import NO_HEAD, collate, join
from zoo.methods.lamss.decoding import chances
from zoo.nn.blocks import Blocks, num_blocks, place

SCORED = 0
ROWS = 256  # tokens that are projected at a time
Row = tuple[Sequence[int], Sequence[int]]


@torch.no_grad()
def probabilities(
    lm: Any, rows: Sequence[Row], *, levels: Sequence[int] = (), budget: int = BUDGET
) -> list[list[float]]:
    """Return p(x_t | context, x_<t) of every token of every row, among the ordinary tokens.

    Args:
        lm: Causal language model, in evaluation mode.
        rows: (context, tokens to score) in token ids; a context has at least one token, and a row
            at least one token to score.
        levels: Ids of the level tokens that the model has.
        budget: Tokens of a forward pass; one row may have more.
    """
    by_row: list[list[float]] = []
    lengths = [len(context) + len(tokens) for context, tokens in rows]
    for part in chunks(rows, lengths, budget, padded=False):
        pieces = [[(context, NO_HEAD, 0.0), (tokens, SCORED, 1.0)] for context, tokens in part]
        batch = collate([join(piece) for piece in pieces]).to(lm.device)
        hidden_ND = Blocks(lm, 0, num_blocks(lm))(batch.input_ids, **place(batch))[0]
        scored = (batch.head_ids[0] == SCORED).nonzero()[:, 0]
        found = _chances(lm, hidden_ND[scored], batch.labels[0, scored], levels).tolist()
        for _, tokens in part:
            by_row.append(found[: len(tokens)])
            found = found[len(tokens) :]
    return by_row


def _chances(lm: Any, hidden_ND: Tensor, labels_N: Tensor, levels: Sequence[int]) -> Tensor:
    parts = zip(hidden_ND.split(ROWS), labels_N.split(ROWS), strict=True)
    return torch.cat(
        [chances(lm.lm_head(lm.model.norm(hidden)), to, levels) for hidden, to in parts]
    )
