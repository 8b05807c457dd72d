"""Shared-prefix scoring: run a prefix once, continue from it as often as needed, read few logits.

`prefill` runs prefixes without padding and keeps their keys and values. `extend` continues from
them: any number of suffixes from one prefix (a document and its queries, a prompt and its options)
or one suffix from each prefix (a query and its documents). A prefix is joined to its suffixes block
by block and never stored twice. `option_logits.py` reads the logits of options off the end.

Causality makes the states of a prefix independent of what follows, so cached and uncached scores
are the same up to rounding. Each sequence counts its own positions; padding stays as masked holes.

Shapes: P prefixes, R suffixes, L slots of a prefix, T slots of a suffix, D width, G key/value
heads, C width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import DynamicCache, DynamicLayer

from zoo.decoding.batching import BUDGET, chunks
from zoo.encoding import collate, pad_rows, unlearned
from zoo.nn.blocks import Blocks, ShiftedCache, grow_mask, num_blocks, place


@dataclass
class Prefixes:
    """Keys and values of prefixes, a row each.

    Attributes:
        keys: For each block `(P, G, L, C)`.
        values: For each block `(P, G, L, C)`.
        starts: Slot of each prefix's first token, `(P,)`; above 0 where it is padded on the left.
        ends: One past the slot of its last token, `(P,)`; a slot is also a position.
        last: Residual state of its last token after the last block, before the final norm,
            `(P, D)`.
    """

    keys: list[Tensor]
    values: list[Tensor]
    starts: Tensor
    ends: Tensor
    last: Tensor

    def __len__(self) -> int:
        """Return P."""
        return len(self.ends)

    @property
    def num_bytes(self) -> int:
        """Memory of keys and values."""
        return sum(part.numel() * part.element_size() for part in (*self.keys, *self.values))

    def split(self) -> list[Prefixes]:
        """Return every prefix by itself, without padding on its right, in memory of its own."""
        singles = []
        for i, end in enumerate(self.ends.tolist()):
            keys, values = (
                [part[i : i + 1, :, :end].clone() for part in kind]
                for kind in (self.keys, self.values)
            )
            row = slice(i, i + 1)
            singles.append(Prefixes(keys, values, self.starts[row], self.ends[row], self.last[row]))
        return singles

    @staticmethod
    def join(parts: Sequence[Prefixes]) -> Prefixes:
        """Return the prefixes of all parts as one batch."""
        if len(parts) == 1:
            return parts[0]
        width = max(part.keys[0].shape[2] for part in parts)

        def stack(kind: str, block: int) -> Tensor:
            rows = [getattr(part, kind)[block] for part in parts]
            return torch.cat([F.pad(row, (0, 0, 0, width - row.shape[2])) for row in rows])

        blocks = range(len(parts[0].keys))
        return Prefixes(
            [stack("keys", block) for block in blocks],
            [stack("values", block) for block in blocks],
            *(torch.cat([getattr(p, n) for p in parts]) for n in ("starts", "ends", "last")),
        )


class _SharedLayer(DynamicLayer):
    """Keys and values of one block that several rows read and none changes."""

    def __init__(self, keys: Tensor, values: Tensor, owners_R: Tensor | None) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.shared, self.owners_R = (keys, values), owners_R
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Return each row's prefix followed by its new keys and values; keep nothing."""
        pairs = zip(self.shared, (key_states, value_states), strict=True)
        keys, values = (torch.cat([self._rows(old, len(new)), new], 2) for old, new in pairs)
        return keys, values

    def _rows(self, kept: Tensor, rows: int) -> Tensor:
        if self.owners_R is None:
            return kept
        if len(kept) == 1:
            return kept.expand(rows, -1, -1, -1)  # a view
        return kept.index_select(0, self.owners_R)


def prefill(
    lm: Any, ids: Sequence[Sequence[int]], *, slot: int | None = None, budget: int = BUDGET
) -> Prefixes:
    """Run prefixes, padding-free, and keep their keys and values.

    Args:
        lm: Causal language model.
        ids: Token ids of each prefix, at least one each.
        slot: Pad each prefix on the left to this many slots, so that its last token lies at slot
            `slot - 1` and what follows starts at position `slot`. None: every prefix starts at 0.
        budget: Tokens to run at a time.
    """
    if not ids or min(map(len, ids)) == 0:
        raise ValueError("a prefix needs at least one token")
    if slot is not None and max(map(len, ids)) > slot:
        raise ValueError(f"a prefix of {max(map(len, ids))} tokens does not fit a slot of {slot}")
    groups = list(chunks(list(range(len(ids))), [len(row) for row in ids], budget, padded=False))
    parts = [_prefill([list(ids[i]) for i in group], lm, slot) for group in groups]
    return Prefixes.join(parts)


def run_packed(
    lm: Any, ids: Sequence[Sequence[int]], starts: Sequence[int], cache: Any = None
) -> Tensor:
    """Run sequences end to end; return the states of all tokens before the final norm, `(N, D)`.

    Args:
        lm: Causal language model.
        ids: Token ids of each sequence.
        starts: Position of each sequence's first token.
        cache: Empty; filled with keys and values, end to end.
    """
    batch = collate([unlearned(row) for row in ids], {}).to(lm.device)
    starts_N = torch.tensor(starts).repeat_interleave(torch.tensor(batch.lengths)).to(lm.device)
    where = place(batch) | {"position_ids": batch.position_ids + starts_N}
    return Blocks(lm, 0, num_blocks(lm))(batch.input_ids, cache=cache, **where)[0]


def _prefill(ids: list[list[int]], lm: Any, slot: int | None) -> Prefixes:
    lengths = [len(row) for row in ids]
    starts = [0 if slot is None else slot - length for length in lengths]
    cache = ShiftedCache(0)
    states = run_packed(lm, ids, starts, cache)
    width = slot or max(lengths)

    def rows(packed: Tensor) -> Tensor:
        """Lay `(1, G, N, C)` out as `(P, G, L, C)`."""
        if len(ids) == 1 and starts == [0]:
            return packed
        laid = packed.new_zeros(len(ids), packed.shape[1], width, packed.shape[3])
        for row, part, start in zip(laid, packed[0].split(lengths, 1), starts, strict=True):
            row[:, start : start + part.shape[1]] = part
        return laid

    starts_P = torch.tensor(starts, device=states.device)
    lengths_P = torch.tensor(lengths, device=states.device)
    layers: list[Any] = cache.layers
    return Prefixes(
        [rows(layer.keys) for layer in layers],
        [rows(layer.values) for layer in layers],
        starts_P,
        starts_P + lengths_P,
        states[lengths_P.cumsum(0) - 1],
    )


def extend(
    lm: Any, prefixes: Prefixes, owners: Sequence[int], suffixes: Sequence[Sequence[int]]
) -> tuple[Tensor, list[int]]:
    """Continue from prefixes, one row per suffix.

    Args:
        lm: The model that ran the prefixes.
        prefixes: What comes first.
        owners: For each suffix, which prefix it follows.
        suffixes: Token ids, at least one each.

    Returns:
        Residual states after the last block, before the final norm, `(R, T, D)`, padded on the
        right, and the length of each suffix.
    """
    device, lengths = lm.device, [len(row) for row in suffixes]
    if min(lengths) == 0:
        raise ValueError("a suffix needs at least one token")
    longest = max(lengths)
    ids, new_RT = pad_rows(suffixes, 0, device)
    owners_R = torch.tensor(list(owners), device=device)
    starts_R, ends_R = prefixes.starts[owners_R], prefixes.ends[owners_R]
    slots_L = torch.arange(prefixes.keys[0].shape[2], device=device)
    old_RL = (slots_L >= starts_R[:, None]) & (slots_L < ends_R[:, None])
    positions_RT = ends_R[:, None] + torch.arange(longest, device=device)
    in_order = list(owners) == list(range(len(prefixes)))
    layers: list[Any] = [
        _SharedLayer(keys, values, None if in_order else owners_R)
        for keys, values in zip(prefixes.keys, prefixes.values, strict=True)
    ]
    cache = DynamicCache()
    cache.layers = layers
    blocks = Blocks(lm, 0, num_blocks(lm))
    positions_RM = torch.cat([slots_L.expand(len(ids), -1), positions_RT], 1)
    mask_RM = torch.cat([old_RL.long(), new_RT], 1)
    states = blocks(
        ids,
        position_ids=positions_RT,
        attention_mask=grow_mask(blocks.config, mask_RM, positions_RM, longest),
        cache=cache,
    )
    return states, lengths


def last_states(
    lm: Any, prefixes: Prefixes, owners: Sequence[int], suffixes: Sequence[Sequence[int]]
) -> Tensor:
    """Return the state of each suffix's last token, `(R, D)`; see `extend`."""
    states, lengths = extend(lm, prefixes, owners, suffixes)
    rows = torch.arange(len(lengths), device=states.device)
    return states[rows, torch.tensor(lengths, device=states.device) - 1]
