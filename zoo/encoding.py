"""From text to tensors: Segment -> Example -> Batch, for every method.

A method's encoder writes a sample as *segments*: a text, the role it plays, the head that learns it
and its weight. `encode` tokenises the segments one by one and joins them, so supervision never
depends on searching token strings or on a chat template's markers. `collate` lays examples side by
side without padding (the default) or in padded rows.

Labels are shifted here, once: `labels[i]` is the token that position `i` has to predict, and
`head_ids[i]` the head that predicts it. Packed neighbours can therefore never supervise each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import compress
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from zoo.errors import InputError, TooLongError
from zoo.markup import token_ids

IGNORE = -100
NO_HEAD = -1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered sample.

    Attributes:
        text: Text to tokenise; only what is `zoo.markup.Markup` in it becomes control tokens.
        role: `system`, `user`, `thought`, `assistant`, ...; for previews and per-role losses.
        head: Index of the head that learns this segment's tokens; `NO_HEAD` for context.
        weight: Weight of each of its tokens in the loss.
    """

    text: str
    role: str
    head: int = NO_HEAD
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Example:
    """One encoded sample; four lists of one length (see the module docstring for the shift).

    Attributes:
        input_ids: Token ids.
        labels: Next-token targets, `IGNORE` where nothing is learned.
        head_ids: Head of each target, `NO_HEAD` where nothing is learned.
        weights: Weight of each target, 0 where nothing is learned.
        record: The record it was made from, for generation during validation.
    """

    input_ids: list[int]
    labels: list[int]
    head_ids: list[int]
    weights: list[float]
    record: Any = None

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.input_ids)

    def head_weights(self) -> dict[int, float]:
        """Return the supervised weight of each head that occurs."""
        totals: dict[int, float] = {}
        pairs = zip(self.head_ids, self.weights, strict=True)
        for head, weight in compress(pairs, map(NO_HEAD.__ne__, self.head_ids)):
            totals[head] = totals.get(head, 0.0) + weight
        return totals


@dataclass(slots=True)
class Batch:
    """Token tensors of several examples.

    Packed (padding-free): every tensor is `(1, N)`, `offsets` `(S + 1,)` holds the cumulative
    lengths and `attention_mask` is None. Padded: `(B, L)` with `attention_mask` `(B, L)` and no
    `offsets`. `position_ids` restart at 0 in every sequence in both.

    Attributes:
        input_ids: Token ids.
        labels: Next-token targets (already shifted), `IGNORE` where nothing is learned.
        head_ids: Head of each target.
        weights: Weight of each target, float32.
        position_ids: Position of each token in its own sequence.
        lengths: Number of tokens of each sequence.
        offsets: Cumulative sequence lengths, int32, packed batches only.
        attention_mask: 1 for tokens and 0 for padding, padded batches only.
        normalizers: Head -> supervised weight that the loss sum of this batch is divided by. The
            loader sets it so that the mean over accumulation steps and ranks is exact.
        records: The records of the examples, in order.
    """

    input_ids: Tensor
    labels: Tensor
    head_ids: Tensor
    weights: Tensor
    position_ids: Tensor
    lengths: list[int]
    offsets: Tensor | None = None
    attention_mask: Tensor | None = None
    normalizers: dict[int, float] = field(default_factory=dict)
    records: list[Any] = field(default_factory=list)

    def to(self, device: torch.device | str, **kwargs: Any) -> Self:
        """Return a copy whose tensors are on `device` (Lightning calls this)."""
        return replace(self, **{name: x.to(device, **kwargs) for name, x in self.tensors().items()})

    def pin_memory(self) -> Self:
        """Return a copy in page-locked memory (the data loader calls this)."""
        return replace(self, **{name: x.pin_memory() for name, x in self.tensors().items()})

    def tensors(self) -> dict[str, Any]:
        """Return the tensors by name."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def counts(self) -> dict[str, int]:
        """Return the amounts of work that throughput is reported in."""
        return {"tokens": self.num_tokens, "supervised_tokens": self.num_supervised}

    @property
    def num_tokens(self) -> int:
        """Number of real tokens, padding excluded."""
        return sum(self.lengths)

    @property
    def ends(self) -> Tensor:
        """Slot of each sequence's last token, counted over all slots of the batch, `(S,)`."""
        lengths = torch.tensor(self.lengths, device=self.input_ids.device)
        if self.offsets is not None:
            return lengths.cumsum(0) - 1
        starts = torch.arange(len(lengths), device=lengths.device) * self.input_ids.shape[1]
        return starts + lengths - 1

    @property
    def num_supervised(self) -> int:
        """Number of tokens that some head learns."""
        return int((self.head_ids != NO_HEAD).sum())


def encode(
    tokenizer: Any,
    segments: Sequence[Segment],
    *,
    max_length: int | None = None,
    record: Any = None,
) -> Example:
    """Tokenise segments one by one and join them into an example.

    Args:
        tokenizer: A Hugging Face tokenizer.
        segments: Segments in order; each is tokenised alone, so its ids do not depend on its
            neighbours.
        max_length: Window in tokens; None for no limit.
        record: Kept on the example; its `id` names the sample in errors.

    Raises:
        InputError: Nothing is supervised.
        TooLongError: The sample is longer than `max_length`.
    """
    pieces = [(token_ids(tokenizer, part.text), part.head, part.weight) for part in segments]
    length = sum(len(piece) for piece, _, _ in pieces)
    if max_length is not None and length > max_length:
        name = getattr(record, "id", "") or "sample"
        raise TooLongError(
            f"{name}: {length} tokens, longer than the window max_length={max_length}; raise "
            f"max_length or shorten the sample"
        )
    return join(pieces, record=record)


def join(pieces: Sequence[tuple[Sequence[int], int, float]], *, record: Any = None) -> Example:
    """Join pieces of token ids, each with its head and weight, and shift the targets.

    Args:
        pieces: (ids, head, weight of each id); `NO_HEAD` for context.
        record: Kept on the example; its `id` names the sample in errors.

    Raises:
        InputError: Nothing is supervised.
    """
    ids: list[int] = []
    labels: list[int] = []
    heads: list[int] = []
    weights: list[float] = []
    for piece, head, weight in pieces:
        size, learned = len(piece), head != NO_HEAD
        ids += piece
        labels += piece if learned else [IGNORE] * size
        heads += [head] * size
        weights += [weight if learned else 0.0] * size
    heads = [*heads[1:], NO_HEAD]
    if heads.count(NO_HEAD) == len(heads):
        name = getattr(record, "id", "") or "sample"
        raise InputError(f"{name}: no token is supervised, so there is nothing to learn from it")
    return Example(
        input_ids=ids,
        labels=[*labels[1:], IGNORE],
        head_ids=heads,
        weights=[*weights[1:], 0.0],
        record=record,
    )


def unlearned(ids: Sequence[int], record: Any = None) -> Example:
    """Return token ids as an example from which nothing is learned: a prompt to be answered."""
    size = len(ids)
    return Example(list(ids), [IGNORE] * size, [NO_HEAD] * size, [0.0] * size, record)


def collate(
    examples: Sequence[Example],
    normalizers: dict[int, float] | None = None,
    *,
    packed: bool = True,
    pad_id: int = 0,
) -> Batch:
    """Join examples into one batch.

    Args:
        examples: At least one example.
        normalizers: See `Batch`; None or an empty one for the supervised weight of this batch.
        packed: Lay the sequences end to end, `(1, N)`; otherwise right-padded rows, `(B, L)`.
        pad_id: Token id of the padding.
    """
    normalizers = normalizers or sum_head_weights(examples)
    columns = {
        "input_ids": (torch.long, pad_id),
        "labels": (torch.long, IGNORE),
        "head_ids": (torch.long, NO_HEAD),
        "weights": (torch.float32, 0.0),
    }
    rows: dict[str, list[Tensor]] = {
        name: [torch.tensor(getattr(example, name), dtype=dtype) for example in examples]
        for name, (dtype, _) in columns.items()
    }
    lengths = torch.tensor([len(example) for example in examples])
    positions = [torch.arange(int(length)) for length in lengths]
    records = [example.record for example in examples]
    if packed:
        offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]).to(torch.int32)
        tensors: dict[str, Any] = {name: torch.cat(row)[None] for name, row in rows.items()}
        return Batch(
            **tensors,
            position_ids=torch.cat(positions)[None],
            lengths=lengths.tolist(),
            offsets=offsets,
            normalizers=normalizers,
            records=records,
        )
    pad = torch.nn.utils.rnn.pad_sequence
    tensors = {
        name: pad(rows[name], batch_first=True, padding_value=fill)
        for name, (_, fill) in columns.items()
    }
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    return Batch(
        **tensors,
        position_ids=pad(positions, batch_first=True),
        lengths=lengths.tolist(),
        attention_mask=mask.long(),
        normalizers=normalizers,
        records=records,
    )


def pad_rows(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Return token ids padded on the right, `(B, L)`, and the mask with 1 for tokens."""
    width = max(map(len, rows))
    ids = [[*row, *[pad_id] * (width - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def extended(kind: type[T], base: Example | Batch, **more: Any) -> T:
    """Return an example or batch of a derived class: the fields of `base` and some more."""
    return kind(**{f.name: getattr(base, f.name) for f in fields(base)}, **more)


def sum_head_weights(examples: Sequence[Any]) -> dict[int, float]:
    """Return the supervised weight per head over examples."""
    totals: dict[int, float] = {}
    for example in examples:
        for head, weight in example.head_weights().items():
            totals[head] = totals.get(head, 0.0) + weight
    return totals
