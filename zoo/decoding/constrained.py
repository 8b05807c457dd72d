"""The next token of each row, and decoding that can only end in one of a row's choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def only(
    choices: Sequence[Sequence[Sequence[int]] | None], stop_id: int
) -> Callable[[int, list[int]], list[int] | None]:
    """Return what may follow in each row: the next token of a choice, or the stop token after one.

    Args:
        choices: For each row, the token ids of its choices; an empty row may only stop, and in a
            row of None anything may follow.
        stop_id: Token that ends a row.

    Example:
        >>> allowed = only([[[1, 0], [1, 2], [3]]], stop_id=9)
        >>> allowed(0, []), allowed(0, [1]), allowed(0, [3])
        ([1, 3], [0, 2], [9])
    """

    def allowed(row: int, tokens: list[int]) -> list[int] | None:
        n, listed = len(tokens), choices[row]
        if listed is None:
            return None
        fitting = [[*choice, stop_id] for choice in listed if list(choice[:n]) == tokens]
        following = [choice[n] for choice in fitting if len(choice) > n]
        return sorted(set(following)) or [stop_id]

    return allowed


def only_ending(
    allowed: Callable[[int, list[int]], list[int] | None],
    row: int,
    tokens: list[int],
    stop_id: int,
    limit: int,
) -> list[int] | None:
    """Return what has to follow up to the stop token; None if that is open.

    Args:
        allowed: See `DepthDecoder.decode`.
        row: Which row.
        tokens: Its tokens so far.
        stop_id: Token that ends it.
        limit: Most tokens of a row.
    """
    rest: list[int] = []
    while len(tokens) + len(rest) <= limit:
        following = allowed(row, [*tokens, *rest])
        if following is None or len(following) != 1:
            return None
        if following[0] == stop_id:
            return rest
        rest.append(following[0])
    return None


def finish(
    rows: list[list[int]],
    done_B: Tensor,
    allowed: Callable[[int, list[int]], list[int] | None],
    stop_id: int,
    limit: int,
) -> None:
    """Complete the rows that can end in one way only, and mark them as done, both in place."""
    for i in (~done_B).nonzero()[:, 0].tolist():
        rest = only_ending(allowed, i, rows[i], stop_id, limit)
        if rest is not None:
            rows[i] += rest
            done_B[i] = True


def pick(logits_BV: Tensor, temperature: float, top_p: float = 1.0) -> Tensor:
    """Return a token per row: the best one at temperature 0, else a sample.

    Args:
        logits_BV: Logits of what may be picked.
        temperature: They are divided by it.
        top_p: A sample is one of the likeliest tokens whose chances sum up to this.
    """
    if temperature == 0:
        return logits_BV.argmax(-1)
    logits_BV = logits_BV.float() / temperature
    if top_p < 1:
        from transformers import TopPLogitsWarper

        logits_BV = TopPLogitsWarper(top_p)(None, logits_BV)
    return torch.multinomial(logits_BV.softmax(-1), 1)[:, 0]


def end_of_text(lm: Any) -> list[int]:
    """Return the tokens that end a text by the model's own settings, end-of-text among them."""
    ids = lm.generation_config.eos_token_id
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def one_stop(token_B: Tensor, end_ids: Sequence[int], stop_id: int) -> Tensor:
    """Return the tokens with the stop token for each that ends a text."""
    for end_id in end_ids:
        token_B = token_B.masked_fill(token_B == end_id, stop_id)
    return token_B


def keep_only(logits_BV: Tensor, allowed: Sequence[Sequence[int] | None]) -> Tensor:
    """Return the logits with -inf for every token not allowed in its row; None allows all."""
    mask = torch.full_like(logits_BV, -torch.inf)
    for row, tokens in enumerate(allowed):
        mask[row, slice(None) if tokens is None else list(tokens)] = 0.0
    return logits_BV + mask
