"""Decode a graded token after every normal token: x_1 s_1 x_2 s_2 ...

The slots alternate strictly. A normal slot cannot choose a level and a level slot nothing else, so
the grammar holds whatever the weights are. Shapes: B batch, V vocabulary, N levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoo.decoding.constrained import keep_only, one_stop, pick
from zoo.decoding.depth_decoder import DepthDecoder
from zoo.nn.blocks import explicit_mask

Project = Callable[[Tensor], Tensor]


class LevelDecoder(DepthDecoder):
    """A decoder in whose sequences levels stand, as the method reads them.

    Args:
        lm: Causal language model.
        depths: Block counts in ascending order; None for all blocks.
        level_ids: Ids of the level tokens.
        hidden: No other token attends to a level.
        shared_positions: A level has the position of the token before it.
        options: Further arguments of `DepthDecoder`.
    """

    def __init__(
        self,
        lm: Any,
        depths: Sequence[int] | None,
        *,
        level_ids: Sequence[int],
        hidden: bool,
        shared_positions: bool,
        **options: Any,
    ) -> None:
        super().__init__(lm, depths, **options)
        self.level_ids_N = torch.tensor(list(level_ids), device=self.mask_BL.device)
        self.hidden, self.shared_positions = hidden, shared_positions

    def _append(self, ids_BT: Tensor, mask_BT: Tensor) -> None:
        normal_BT = mask_BT * ~torch.isin(ids_BT, self.level_ids_N)
        super()._append(ids_BT, normal_BT if self.shared_positions else mask_BT)
        self.mask_BL[:, -ids_BT.shape[1] :] = normal_BT if self.hidden else mask_BT

    def _block_arguments(self, config: Any, new: int) -> dict[str, Any]:
        arguments = super()._block_arguments(config, new)
        if self.hidden:
            mask = explicit_mask(config, self.mask_BL, self.positions_BL, new)
            arguments["attention_mask"] = mask
        return arguments


@dataclass(slots=True)
class Graded:
    """What one row decoded.

    Attributes:
        ids: Normal tokens, the stop token included where the row chose it.
        doubts: Expected level u_t of each of them, in [0, 1].
        levels: The level token fed after each of them, as an index.
    """

    ids: list[int] = field(default_factory=list)
    doubts: list[float] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)


def expected_level(logits_BV: Tensor, level_ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return u = sum_j v_j P[j] in [0, 1] and argmax_j P[j], with P over the levels alone.

    Args:
        logits_BV: Logits of a level slot, `(B, V)`.
        level_ids: Ids of s_0, ..., s_{N-1}; v_j = j / (N - 1).
    """
    logits_BN = logits_BV[:, list(level_ids)].float()
    values_N = torch.linspace(0, 1, len(level_ids), device=logits_BV.device)
    return (logits_BN.softmax(-1) @ values_N).clamp(0, 1), logits_BN.argmax(-1)


def without(logits_BV: Tensor, ids: Sequence[int]) -> Tensor:
    """Return logits in which some tokens cannot be chosen."""
    kept = logits_BV.clone()
    kept[:, list(ids)] = -torch.inf
    return kept


def chances(logits_BV: Tensor, token_B: Tensor, level_ids: Sequence[int]) -> Tensor:
    """Return the probability of a token in each row, `(B,)`, among those that are no levels."""
    return without(logits_BV.float(), level_ids).softmax(-1).gather(1, token_B[:, None])[:, 0]


def read_graded(
    decoder: DepthDecoder,
    prompts: Sequence[Sequence[int]],
    project: Project,
    level_ids: Sequence[int],
) -> list[list[float]]:
    """Read given tokens, a level after each of them, chosen greedily.

    A process whose rows are read goes on until all are done: they share the weights.

    Args:
        decoder: Where the tokens are appended, at its first depth.
        prompts: Normal tokens of each row.
        project: Maps states `(B, D)` to logits `(B, V)`.
        level_ids: Ids of the level tokens in ascending order of doubt.

    Returns:
        The probability of each token but the first, given what stands before it, levels included,
        among the normal tokens.
    """
    device = decoder.mask_BL.device
    levels_N = torch.tensor(list(level_ids), device=device)
    lengths_B = torch.tensor([len(row) for row in prompts], device=device)
    rows: list[list[float]] = [[] for _ in prompts]
    step, longest = 0, max(map(len, prompts))
    while not decoder.everyone_done(step >= longest):
        alive_B = step < lengths_B
        token_B = torch.tensor([row[step] if step < len(row) else 0 for row in prompts]).to(device)
        if step:
            chance_B = chances(project(decoder.state()), token_B, level_ids)
            for row, chance, alive in zip(rows, chance_B.tolist(), alive_B.tolist(), strict=True):
                row += [chance] if alive else []
        decoder.push(token_B, alive_B, 0)
        _, level_B = expected_level(project(decoder.state()), level_ids)
        decoder.push(levels_N[level_B], alive_B, 0)
        step += 1
    return rows


def decode_graded(
    decoder: DepthDecoder,
    project: Project,
    level_ids: Sequence[int],
    *,
    stop_id: int,
    max_new_tokens: int,
    allowed: Callable[[int, list[int]], list[int] | None] | None = None,
) -> list[Graded]:
    """Decode each row greedily until its stop token, a level after every token.

    Every row ends with the stop token and its level, so that another turn can follow. A row that
    meets the limit is closed with a stop token that is no part of its answer.

    Args:
        decoder: Fed with the prompts, at its first depth.
        project: Maps states `(B, D)` to logits `(B, V)`.
        level_ids: Ids of the level tokens in ascending order of doubt.
        stop_id: Token that ends a row.
        max_new_tokens: Limit of normal tokens per row, stop token excluded.
        allowed: Given a row and its normal tokens so far, those that may follow; None for all.
    """
    device = decoder.state().device
    levels_N = torch.tensor(list(level_ids), device=device)
    rows = [Graded() for _ in range(len(decoder.state()))]
    alive_B = torch.ones(len(rows), dtype=torch.bool, device=device)
    for step in range(max_new_tokens + 1):
        logits_BV = without(project(decoder.state()), level_ids)
        if allowed is not None:
            logits_BV = keep_only(logits_BV, [allowed(i, row.ids) for i, row in enumerate(rows)])
        token_B = one_stop(pick(logits_BV, 0.0), decoder.end_ids, stop_id)
        if step == max_new_tokens:
            token_B = torch.full_like(token_B, stop_id)
        decoder.push(token_B, alive_B, 0)
        doubt_B, level_B = expected_level(project(decoder.state()), level_ids)
        decoder.push(levels_N[level_B], alive_B, 0)
        table = zip(token_B.tolist(), doubt_B.tolist(), level_B.tolist(), strict=True)
        for row, alive, (token, doubt, level) in zip(rows, alive_B.tolist(), table, strict=True):
            if alive and step < max_new_tokens:
                row.ids.append(token)
                row.doubts.append(doubt)
                row.levels.append(level)
        alive_B = alive_B & (token_B != stop_id)
        if decoder.everyone_done(not alive_B.any()):
            break
    return rows
