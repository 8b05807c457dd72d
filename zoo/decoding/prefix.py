"""Shared-prefix scoring: run a prefix once, continue from it as often as needed, read few logits.

`prefill` runs prefixes without padding and keeps their keys and values. `extend` continues from
them: any number of suffixes from one prefix (a document and its queries, a prompt and its options)
or one suffix from each prefix (a query and its documents). A prefix is joined to its suffixes block
by block and never stored twice. `option_logits` projects the rows of the head that are options.

Causality makes the states of a prefix independent of what follows, so cached and uncached scores
are the same up to rounding. Each sequence counts its own positions; padding stays as masked holes.

Shapes: P prefixes, R suffixes, L slots of a prefix, T slots of a suffix, D width, G key/value
heads, C width of a head, K options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import DynamicCache, DynamicLayer

from zoo.nn.blocks import Blocks, grow_mask, num_blocks

Item = TypeVar("Item")
BUDGET = 4096  # tokens at a time


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
        found = []
        for i, end in enumerate(self.ends.tolist()):
            keys, values = (
                [part[i : i + 1, :, :end].clone() for part in kind]
                for kind in (self.keys, self.values)
            )
            row = slice(i, i + 1)
            found.append(Prefixes(keys, values, self.starts[row], self.ends[row], self.last[row]))
        return found

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


def _prefill(ids: list[list[int]], lm: Any, slot: int | None) -> Prefixes:
    device, lengths = lm.device, [len(row) for row in ids]
    starts = [0 if slot is None else slot - length for length in lengths]
    offsets = torch.tensor([0, *lengths], device=device).cumsum(0)
    positions = [torch.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)]
    blocks = Blocks(lm, 0, num_blocks(lm))
    cache = blocks.new_cache()
    states = blocks(
        torch.tensor([[token for row in ids for token in row]], device=device),
        position_ids=torch.cat(positions)[None].to(device),
        attention_mask=torch.empty(1, 1, 1, 1, device=device),  # packed: handed through, not read
        lengths=lengths,
        cu_seq_lens_q=offsets.to(torch.int32),
        cu_seq_lens_k=offsets.to(torch.int32),
        max_length_q=max(lengths),
        max_length_k=max(lengths),
        past_key_values=cache,
    )[0]
    width = slot or max(lengths)

    def rows(packed: Tensor) -> Tensor:
        """Lay `(1, G, N, C)` out as `(P, G, L, C)`."""
        if len(ids) == 1 and starts == [0]:
            return packed
        laid = packed.new_zeros(len(ids), packed.shape[1], width, packed.shape[3])
        for row, part, start in zip(laid, packed[0].split(lengths, 1), starts, strict=True):
            row[:, start : start + part.shape[1]] = part
        return laid

    starts_P = torch.tensor(starts, device=device)
    layers: list[Any] = cache.layers
    return Prefixes(
        [rows(layer.keys) for layer in layers],
        [rows(layer.values) for layer in layers],
        starts_P,
        starts_P + torch.tensor(lengths, device=device),
        states[offsets[1:] - 1],
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
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in suffixes], device=device)
    new_RT = torch.arange(longest, device=device) < torch.tensor(lengths, device=device)[:, None]
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
    mask_RM = torch.cat([old_RL, new_RT], 1).long()
    states = blocks(
        ids,
        position_ids=positions_RT,
        attention_mask=grow_mask(blocks.config, mask_RM, positions_RM, longest),
        past_key_values=cache,
    )
    return states, lengths


def last_states(
    lm: Any, prefixes: Prefixes, owners: Sequence[int], suffixes: Sequence[Sequence[int]]
) -> Tensor:
    """Return the state of each suffix's last token, `(R, D)`; see `extend`."""
    states, lengths = extend(lm, prefixes, owners, suffixes)
    rows = torch.arange(len(lengths), device=states.device)
    return states[rows, torch.tensor(lengths, device=states.device) - 1]


def option_logits(
    states_RD: Tensor,
    norm: Callable[[Tensor], Tensor],
    weight_VD: Tensor,
    option_ids: Sequence[int],
) -> Tensor:
    """Return the logits of the options alone, `(R, K)`, in float32: K rows of the head, not V.

    Args:
        states_RD: States before the final norm.
        norm: The final norm.
        weight_VD: The head.
        option_ids: Token ids of the options.
    """
    rows_KD = weight_VD[torch.tensor(list(option_ids), device=weight_VD.device)]
    with torch.autocast(states_RD.device.type, enabled=False):
        return norm(states_RD).float() @ rows_KD.float().t()


def chunks(
    items: Sequence[Item], lengths: Sequence[int], budget: int, *, padded: bool = True
) -> Iterator[list[Item]]:
    """Yield groups of items that stay within a budget of tokens.

    Args:
        items: What to group.
        lengths: Tokens of each item.
        budget: Tokens of a group; an item above it is a group of its own.
        padded: A group costs its longest item for each, so items of like lengths are put together,
            longest first. Else it costs the sum, and the items keep their order.

    Example:
        >>> list(chunks("abcd", [5, 1, 2, 5], 6))
        [['a'], ['d'], ['c', 'b']]
    """
    group: list[Item] = []
    longest = total = 0
    order = sorted(range(len(items)), key=lambda i: -lengths[i]) if padded else range(len(items))
    for i in order:
        total += lengths[i]
        if group and ((len(group) + 1) * longest if padded else total) > budget:
            yield group
            group, total = [], lengths[i]
        longest = longest if group else lengths[i]
        group.append(items[i])
    if group:
        yield group


def in_step(
    items: Sequence[Item], everyone_done: Callable[[bool], bool] = bool
) -> Iterator[tuple[Item, bool]]:
    """Yield items; while other processes have more, yield the last one again, marked False.

    Running a sharded block is a collective, so all processes run the same number of chunks.

    Args:
        items: At least one.
        everyone_done: Says whether all processes have finished, given whether this one has.
    """
    turn = 0
    while not everyone_done(turn >= len(items)):
        yield items[min(turn, len(items) - 1)], turn < len(items)
        turn += 1
