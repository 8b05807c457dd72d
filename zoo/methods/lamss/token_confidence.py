"""How sure a decoding was of its tokens: their probabilities and the entropies they came from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.decoding.constrained import keep_only, one_stop, pick
from zoo.decoding.depth_decoder import DepthDecoder

Seen = tuple[list[float], list[float]]
"""log p in nats and entropy in [0, 1] of each token of a row."""


def decode_with_confidence(
    decoder: DepthDecoder,
    project: Callable[[Tensor], Tensor],
    *,
    stop_id: int,
    max_new_tokens: int,
    allowed: Callable[[int, list[int]], list[int] | None],
) -> tuple[list[list[int]], list[Seen]]:
    """Decode each row greedily until its stop token; keep two numbers a token, not the logits.

    Both are of the softmax over the whole vocabulary, also where only some tokens are allowed.

    Args:
        decoder: Fed with the prompts, at its first depth.
        project: Maps states `(B, D)` to logits `(B, V)`.
        stop_id: Token that ends a row.
        max_new_tokens: Limit per row, stop token excluded.
        allowed: Given a row and its tokens so far, the tokens that may follow; None for all.

    Returns:
        The token ids of each row without the stop token; log p and entropy of each token, the stop
        token's too where the row has one.
    """
    rows: list[list[int]] = [[] for _ in decoder.state()]
    seen: list[Seen] = [([], []) for _ in rows]
    alive_B = torch.ones(len(rows), dtype=torch.bool, device=decoder.state().device)
    for step in range(max_new_tokens):
        logits_BV = project(decoder.state())
        token_B = pick(keep_only(logits_BV, [allowed(i, row) for i, row in enumerate(rows)]), 0.0)
        logp_BV = logits_BV.float().log_softmax(-1)
        picked_B = logp_BV.gather(1, token_B[:, None])[:, 0]
        token_B = one_stop(token_B, decoder.end_ids, stop_id)
        entropy_B = torch.special.entr(logp_BV.exp()).sum(-1) / math.log(logp_BV.shape[1])
        columns = (token_B, alive_B, picked_B, entropy_B.clamp(0, 1))
        table = zip(*(column.tolist() for column in columns), strict=True)
        for row, (logps, entropies), (token, alive, logp, entropy) in zip(
            rows, seen, table, strict=True
        ):
            if alive:
                row += [token] if token != stop_id else []
                logps.append(logp)
                entropies.append(entropy)
        running_B, alive_B = alive_B, alive_B & (token_B != stop_id)
        if decoder.everyone_done(not alive_B.any()) or step + 1 == max_new_tokens:
            break  # nothing reads the state of these tokens
        decoder.push(token_B, running_B, 0)
    return rows, seen


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
