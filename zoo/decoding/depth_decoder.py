"""Decode at several depths of one network, in one batch of sequences.

Tokens enter at the bottom and rise only as far as they are needed. A phase that decodes at depth k
runs k blocks per token and keeps the states that it leaves there; when a later phase decodes
deeper, those states are pushed through the blocks above in one chunk (*catch-up*), so the prompt is
never run twice. In float32 the tokens are those of the plain path that prefills everything again;
in bfloat16 the two round otherwise, and a tie can fall the other way.

Rows of a batch are right-aligned by masking, not by moving: prompts are padded on the right, and
the padding stays as masked holes while positions count real tokens only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.decoding.constrained import end_of_text, finish, keep_only, one_stop, pick
from zoo.decoding.prefix_cache import prefill
from zoo.encoding import pad_rows
from zoo.nn.blocks import Blocks, begin_rows, grow_mask, keep_first, num_blocks


@dataclass(frozen=True, slots=True)
class Place:
    """A point of the sequences to go back to.

    Attributes:
        slots: How many slots there were.
        last: State of each row's last token, `(B, D)`; None before the first token.
    """

    slots: int
    last: Tensor | None


class DepthDecoder:
    """A growing batch of sequences whose tokens have risen to different depths.

    Args:
        lm: Causal language model.
        depths: Block counts in ascending order, where tokens are decoded; None for the last block.
        batch_size: Number of sequences.
        pad_id: Token id fed for rows that have finished.
        everyone_done: Says whether all processes have finished, given whether this one has.
    """

    def __init__(
        self,
        lm: Any,
        depths: Sequence[int] | None = None,
        *,
        batch_size: int,
        pad_id: int,
        everyone_done: Callable[[bool], bool] = bool,
    ) -> None:
        self.lm = lm
        depths = [num_blocks(lm)] if depths is None else depths
        self.stages = [Blocks(lm, start, stop) for start, stop in pairwise([0, *depths])]
        self.caches = [stage.new_cache() for stage in self.stages]
        self.waiting: list[list[Tensor]] = [[] for _ in self.stages]  # states below each stage
        self.mask_BL = torch.zeros(batch_size, 0, dtype=torch.long, device=lm.device)
        self.positions_BL = self.mask_BL
        self.last_BD: Tensor | None = None  # state of each row's last real token
        self.pad_id, self.everyone_done = pad_id, everyone_done
        self.end_ids = end_of_text(lm)

    def open(self, ids: Sequence[Sequence[int]]) -> None:
        """Begin rows with prompts, or begin them again, in one packed pass without padding.

        Only for a decoder whose one depth is the top; others use `feed`.

        Args:
            ids: Token ids of each row. An empty row stays as it is; in the first call none is
                empty.
        """
        prompts = {row: prompt for row, prompt in enumerate(ids) if prompt}
        rows_P = torch.tensor(list(prompts), device=self.mask_BL.device)
        kept = prefill(self.lm, list(prompts.values()), budget=sum(map(len, ids)))
        for index, (keys, values) in enumerate(zip(kept.keys, kept.values, strict=True)):
            begin_rows(self.caches[0], index, rows_P, keys, values)
        longest, ends_P1 = int(kept.ends.max()), kept.ends[:, None]
        holes = (0, max(0, longest - self.mask_BL.shape[1]))
        mask_BL, positions_BL = F.pad(self.mask_BL, holes), F.pad(self.positions_BL, holes)
        slots_L = torch.arange(mask_BL.shape[1], device=mask_BL.device)
        own_PL = torch.minimum(slots_L, ends_P1 - 1)
        self.mask_BL = mask_BL.index_copy(0, rows_P, (slots_L < ends_P1).long())
        self.positions_BL = positions_BL.cummax(1).values.index_copy(0, rows_P, own_PL)
        before = kept.last if self.last_BD is None else self.last_BD
        self.last_BD = before.index_copy(0, rows_P, kept.last)

    def open_alike(self, ids: Sequence[int]) -> None:
        """Begin every row with the same tokens, which are run once; like `open` otherwise."""
        rows = self.mask_BL.shape[0]
        kept = prefill(self.lm, [ids], budget=len(ids))
        rows_B = torch.arange(rows, device=self.mask_BL.device)
        for index, (keys, values) in enumerate(zip(kept.keys, kept.values, strict=True)):
            alike = (part.expand(rows, -1, -1, -1) for part in (keys, values))
            begin_rows(self.caches[0], index, rows_B, *alike)
        self.positions_BL = torch.arange(len(ids), device=rows_B.device).repeat(rows, 1)
        self.mask_BL = torch.ones_like(self.positions_BL)
        self.last_BD = kept.last.repeat(rows, 1)

    def feed(self, ids: Sequence[Sequence[int]], level: int) -> None:
        """Append tokens to each row and raise everything so far to a depth.

        Args:
            ids: New token ids of each row; rows may differ in length.
            level: Index into `depths` of the depth that the next decoding needs.
        """
        if any(ids):
            self._feed(*pad_rows(ids, self.pad_id, self.mask_BL.device), level)

    def push(self, token_B: Tensor, alive_B: Tensor, level: int) -> None:
        """Append one token to each row that is alive, and an empty slot to the others.

        Args:
            token_B: Token ids, `(B,)`.
            alive_B: Which rows grow, bool, `(B,)`.
            level: See `feed`.
        """
        token_B = torch.where(alive_B, token_B, self.pad_id)
        self._feed(token_B[:, None], alive_B.long()[:, None], level)

    def follow(self, ids: Sequence[Sequence[int]], level: int) -> Tensor:
        """Append tokens as `feed` does; return the states that predict each of them, `(B, T, D)`.

        Args:
            ids: New token ids of each row; what stands beyond a shorter row means nothing.
            level: See `feed`.
        """
        before = self.state()
        newest = self._feed(*pad_rows(ids, self.pad_id, self.mask_BL.device), level)
        return torch.cat([before[:, None], newest[:, :-1]], 1)

    def place(self) -> Place:
        """Return where the sequences are, for `rewind`."""
        return Place(self.mask_BL.shape[1], self.last_BD)

    def rewind(self, place: Place) -> None:
        """Forget everything after a place.

        Raises:
            RuntimeError: There are several depths: states may have moved on between them.
        """
        if len(self.stages) > 1:
            raise RuntimeError("only a decoder of one depth can be rewound")
        keep_first(self.caches[0], place.slots)
        self.mask_BL = self.mask_BL[:, : place.slots]
        self.positions_BL = self.positions_BL[:, : place.slots]
        self.last_BD = place.last

    def _feed(self, ids_BT: Tensor, mask_BT: Tensor, level: int) -> Tensor:
        self._append(ids_BT, mask_BT)
        states = self._raise_to(level)
        # Each row's last real token lies within the new ones, unless the row got none.
        newest = states[:, -mask_BT.shape[1] :]
        count = mask_BT.sum(1)
        index = (count - 1).clamp_min(0)[:, None, None].expand(-1, 1, newest.shape[2])
        last = newest.gather(1, index)[:, 0]
        if self.last_BD is not None:
            last = torch.where((count > 0)[:, None], last, self.last_BD)
        self.last_BD = last
        return newest

    def _append(self, ids_BT: Tensor, mask_BT: Tensor) -> None:
        """Add slots below the first block: which hold tokens, and the position of each."""
        start = self.positions_BL[:, -1:] + 1 if self.positions_BL.shape[1] else 0
        self.mask_BL = torch.cat([self.mask_BL, mask_BT], 1)
        self.positions_BL = torch.cat([self.positions_BL, mask_BT.cumsum(1) - 1 + start], 1)
        self.waiting[0].append(ids_BT)

    def _block_arguments(self, config: Any, new: int) -> dict[str, Any]:
        """Return what blocks are given beside the states of the last `new` slots."""
        mask = grow_mask(config, self.mask_BL, self.positions_BL, new)
        return {"attention_mask": mask, "position_ids": self.positions_BL[:, -new:]}

    def _raise_to(self, level: int) -> Tensor:
        """Run every waiting token up to a depth; return the states of those that arrive there."""
        states = torch.empty(0)
        for index in range(level + 1):
            stage, cache = self.stages[index], self.caches[index]
            states = torch.cat(self.waiting[index], 1)
            self.waiting[index] = []
            new = states.shape[1]
            states = stage(states, cache, **self._block_arguments(stage.config, new))
            if index + 1 < len(self.stages):
                self.waiting[index + 1].append(states)
        return states

    def state(self) -> Tensor:
        """Return the state of each row's last token, at the depth it was fed to, `(B, D)`."""
        if self.last_BD is None:
            raise RuntimeError("decode before feed: there is no state to decode from")
        return self.last_BD

    def decode(
        self,
        level: int,
        project: Callable[[Tensor], Tensor],
        *,
        stop_id: int,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        close: bool = True,
        allowed: Callable[[int, list[int]], list[int] | None] | None = None,
    ) -> list[list[int]]:
        """Decode each row until its stop token, or a token that ends the model's texts.

        Args:
            level: Index into `depths` of the depth to decode at; `feed` has raised the rows there.
            project: Maps states `(B, D)` at that depth to logits `(B, V)`.
            stop_id: Token that ends a row. A later phase sees it where the text ended otherwise.
            max_new_tokens: Limit per row, stop token excluded.
            temperature: 0 is greedy; else tokens are sampled from softmax(logits / temperature).
            top_p: A sampled token is one of the likeliest whose chances sum up to this.
            close: Append the stop token to every row, so that another phase can follow.
            allowed: Given a row and its tokens so far, the tokens that may follow; None for all.
                Without `close`, a row is not run where it can end in one way only.

        Returns:
            The new token ids of each row without the stop token.
        """
        self.state()
        batch_size = self.mask_BL.shape[0]
        done_B = torch.zeros(batch_size, dtype=torch.bool, device=self.mask_BL.device)
        rows: list[list[int]] = [[] for _ in range(batch_size)]
        for step in range(max_new_tokens + close):
            if step < max_new_tokens:
                logits_BV = project(self.state())
                if allowed is not None:
                    logits_BV = keep_only(logits_BV, [allowed(i, r) for i, r in enumerate(rows)])
                token_B = one_stop(pick(logits_BV, temperature, top_p), self.end_ids, stop_id)
            else:
                token_B = torch.full((batch_size,), stop_id, device=self.mask_BL.device)
            alive = (~done_B).tolist()
            done_B = done_B | (token_B == stop_id)
            for row, token, live in zip(rows, token_B.tolist(), alive, strict=True):
                if live and token != stop_id:
                    row.append(token)
            if allowed is not None and not close:
                finish(rows, done_B, allowed, stop_id, max_new_tokens)
            finished = self.everyone_done(bool(done_B.all()))
            if not close and (finished or step + 1 == max_new_tokens):
                break  # nothing reads the state of this token
            self.push(token_B, torch.tensor(alive, device=token_B.device), level)
            if finished:
                break
        return rows
