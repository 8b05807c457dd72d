"""Prompts with a condition beside them.

The prompt goes to the model, the condition's token ids to what reads conditions: MeGan's
hypernetwork.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from zoo.encoding import Batch, Example, Segment, extended
from zoo.errors import InputError, TooLongError
from zoo.prompts.base import PromptEncoder
from zoo.prompts.thoughts import SYSTEM
from zoo.records import Conditioned

REPLY = 0  # the head that learns


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionedExample(Example):
    """An example with its condition.

    Attributes:
        condition: Token ids of the condition, no special tokens; empty for none.
    """

    condition: list[int]


@dataclass(slots=True)
class Conditions:
    """The conditions of several sequences, padded to one length.

    Attributes:
        ids: Token ids, `(S, C)`.
        mask: True for tokens that are seen, `(S, C)`; nowhere in a row without condition.
        told: Whether each sequence has a condition.
    """

    ids: Tensor
    mask: Tensor
    told: list[bool]

    def to(self, device: torch.device) -> Conditions:
        """Return a copy on a device."""
        return Conditions(self.ids.to(device), self.mask.to(device), self.told)


@dataclass(slots=True, kw_only=True)
class ConditionedBatch(Batch):
    """A batch with the condition of each sequence; the fields of `Conditions`."""

    condition_ids: Tensor
    condition_mask: Tensor
    told: list[bool]

    @property
    def conditions(self) -> Conditions:
        """The conditions of the sequences."""
        return Conditions(self.condition_ids, self.condition_mask, self.told)


@dataclass
class ConditionEncoder(PromptEncoder):
    """Encoder of prompts with responses under conditions.

    Attributes:
        max_condition: Longest condition in tokens.
        fixed_condition: Cut and pad the conditions of examples to this length (released training
            code: 16); None keeps them whole.
        see_padding: Let padding of `fixed_condition` be seen (released training code).
    """

    records: ClassVar[tuple[type, ...]] = (Conditioned,)

    max_condition: int = 512
    fixed_condition: int | None = None
    see_padding: bool = False

    def __call__(self, record: Conditioned) -> list[ConditionedExample]:
        """Encode a record: the response and its end-of-turn are learned.

        Raises:
            InputError: The response is empty, the sample is longer than the window, or the
                condition gives no token or too many.
        """
        if not record.response.strip():
            raise InputError(f"{record.id or 'sample'}: the field 'response' is empty")
        reply = self.chat.turn("assistant", record.response, head=REPLY)
        segments = [*self._asked(record), *reply]
        base = self.encode(segments, record)
        return [extended(ConditionedExample, base, condition=self.condition(record))]

    def condition(self, record: Conditioned) -> list[int]:
        """Return the token ids of a record's whole condition; none if it has no condition.

        Raises:
            InputError: The condition gives no token, or more than `max_condition`.
        """
        if not record.condition:
            return []
        ids = self.ids(record.condition)
        name = record.id or "sample"
        if not ids:
            raise InputError(
                f"{name}: the condition {record.condition!r} gives no token; leave it empty for "
                f"no condition"
            )
        if len(ids) > self.max_condition:
            raise TooLongError(
                f"{name}: a condition of {len(ids)} tokens, longer than max_condition="
                f"{self.max_condition}; raise max_condition or shorten it"
            )
        return ids

    def prompt(self, record: Conditioned) -> list[int]:
        """Return the token ids of everything before the reply, its header included.

        Raises:
            InputError: The prompt fills the window.
        """
        segments = [*self._asked(record), Segment(self.chat.open("assistant"), "header")]
        return self.check_prompt(self.segment_ids(segments), record)

    def conditions(self, records: Sequence[Conditioned]) -> Conditions:
        """Return the whole conditions of records that are to be answered, padding unseen."""
        return self._stack([self.condition(record) for record in records])

    def collate(
        self, examples: Sequence[ConditionedExample], normalizers: dict[int, float]
    ) -> ConditionedBatch:
        """Join examples into a batch."""
        base = super().collate(examples, normalizers)
        conditions = [example.condition for example in examples]
        padded = self._stack(conditions) if self.fixed_condition is None else self._cut(conditions)
        return extended(
            ConditionedBatch,
            base,
            condition_ids=padded.ids,
            condition_mask=padded.mask,
            told=padded.told,
        )

    def preview(self, example: ConditionedExample) -> list[str]:
        """Return lines that show an example with its masks in colour, and its condition."""
        text = self.tokenizer.decode(example.condition) if example.condition else "none"
        return [*super().preview(example), f"condition   {text}"]

    def _asked(self, record: Conditioned) -> list[Segment]:
        """Return the system and user turns."""
        system = self.chat.turn("system", record.system or SYSTEM, first=True)
        return system + self.chat.turn("user", record.prompt)

    def _stack(self, rows: Sequence[Sequence[int]]) -> Conditions:
        """Pad to the longest; a batch without any condition keeps one unseen token a row."""
        width = max(1, *map(len, rows))
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
        counts = torch.tensor([len(row) for row in rows])
        mask = torch.arange(width)[None] < counts[:, None]
        return Conditions(ids, mask, [bool(row) for row in rows])

    def _cut(self, rows: Sequence[Sequence[int]]) -> Conditions:
        """Cut and pad to the fixed length."""
        fixed = self.fixed_condition or 0
        pad = self.tokenizer.pad_token_id
        stacked = self._stack([*(row[:fixed] for row in rows), [pad] * fixed])
        conditioned = [bool(row) for row in rows]
        mask = stacked.mask[:-1]
        if self.see_padding:
            mask = torch.tensor(conditioned)[:, None].expand_as(mask)
        return Conditions(stacked.ids[:-1], mask, conditioned)
