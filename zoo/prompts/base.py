"""What encoders of prompts have in common: token ids, the window, batches, previews."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from zoo.encoding import Batch, Example, Segment, collate, encode
from zoo.errors import TooLongError
from zoo.markup import Markup, token_ids
from zoo.prompts.chat_format import chat_format
from zoo.sample_preview import preview


@dataclass
class PromptEncoder:
    """The base of an encoder: a method's own says how a record becomes examples, by `__call__`.

    An encoder that has to see a whole split before it encodes a record of it has a method
    `study(records, split)`, which is called once right before.

    Training examples of large data are stored and have no record; where training needs the records
    of its batches, `needs_records` is True and they stay in memory.

    Attributes:
        tokenizer: A Hugging Face tokenizer.
        max_length: Window in tokens.
        packed: Lay sequences end to end instead of padding them.
        records: Record types that are taken.
    """

    records: ClassVar[tuple[type, ...]]

    tokenizer: Any
    max_length: int = field(default=2048, kw_only=True)
    packed: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        self.chat = chat_format(self.tokenizer)
        self.stop_id: int = self.tokenizer.convert_tokens_to_ids(self.chat.end)
        self._shortened = 0

    @property
    def shortened(self) -> int:
        """Number of prompts made so far that lack a part of their text, for want of room."""
        return self._shortened

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text; only its markers are control tokens, none is added."""
        return token_ids(self.tokenizer, text)

    def segment_ids(self, segments: Iterable[Segment]) -> list[int]:
        """Return the token ids of segments, each tokenised alone."""
        return [token for segment in segments for token in self.ids(segment.text)]

    def system_turn(self, text: str) -> Markup:
        """Return the system turn that begins a prompt, as text."""
        return self.chat.open("system", first=True) + text + self.chat.close("system")

    def encode(self, segments: Sequence[Segment], record: Any) -> Example:
        """Return segments as an example.

        Raises:
            InputError: Nothing is supervised.
            TooLongError: The sample is longer than the window.
        """
        return encode(self.tokenizer, segments, max_length=self.max_length, record=record)

    def check_prompt(self, ids: list[int], record: Any) -> list[int]:
        """Return a prompt's ids.

        Raises:
            TooLongError: They fill the window, so that nothing can be written after them.
        """
        if len(ids) >= self.max_length:
            raise TooLongError(
                f"{record.id or 'prompt'}: {len(ids)} tokens, which leaves no room in the window "
                f"max_length={self.max_length}; raise max_length or shorten the prompt"
            )
        return ids

    def collate(self, examples: Sequence[Any], normalizers: dict[int, float]) -> Batch:
        """Join examples into a batch."""
        pad_id = self.tokenizer.pad_token_id
        return collate(examples, normalizers, packed=self.packed, pad_id=pad_id)

    def preview(self, example: Any) -> list[str]:
        """Return lines that show an example with its masks in colour."""
        return preview(example, self.tokenizer)
