"""Media-text records -> pair examples -> pair batches, for methods without a vocabulary head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoo.encoding import pad_rows, sum_head_weights
from zoo.errors import InputError
from zoo.records import Media, MediaText

Inputs = dict[str, Tensor]
PAIR = 0  # the one kind of supervision, as a "head" of the loader's normalisers


@dataclass(frozen=True, slots=True)
class PairExample:
    """One text of one record.

    Attributes:
        text: The caption, or the answer to the record's question.
        ids: Its token ids.
        question_ids: Token ids of the question; empty if there is none.
        record: Where it comes from.
    """

    text: str
    ids: list[int]
    question_ids: list[int]
    record: MediaText

    def __len__(self) -> int:
        """Return the number of text tokens."""
        return len(self.ids) + len(self.question_ids)

    def head_weights(self) -> dict[int, float]:
        """Return the weight of this pair."""
        return {PAIR: 1.0}

    @property
    def group(self) -> str:
        """Pairs of one group match, and never share a training batch.

        To a question the same answer always matches, whichever the picture; a caption matches the
        group of its record. Of a question with several answers each is a pair of its own.
        """
        return self.text if self.record.question else self.record.group or self.record.id


@dataclass(slots=True)
class PairBatch:
    """Inputs of every modality for B pairs.

    Attributes:
        inputs: Modality -> what its encoder takes, for example `image` -> `{"pixel_values":
            (B, 3, S, S)}`, `text` -> `{"input_ids", "attention_mask": (B, L)}`; the text of
            questions is `question`.
        keys: Modality -> a name for each item; equal names are equal items.
        groups: The group of each pair.
        normalizers: See `zoo.encoding.Batch`.
        examples: The pairs.
    """

    inputs: dict[str, Inputs]
    keys: dict[str, list[str]]
    groups: list[str] = field(default_factory=list)
    normalizers: dict[int, float] = field(default_factory=dict)
    examples: list[PairExample] = field(default_factory=list)

    def __len__(self) -> int:
        """Return B."""
        return len(self.groups)

    def to(self, device: torch.device | str, **kwargs: Any) -> PairBatch:
        """Return a copy whose tensors are on `device` (Lightning calls this)."""
        return self._map(lambda tensor: tensor.to(device, **kwargs))

    def pin_memory(self) -> PairBatch:
        """Return a copy in page-locked memory (the data loader calls this)."""
        return self._map(Tensor.pin_memory)

    def counts(self) -> dict[str, int]:
        """Return the amounts of work that throughput is reported in."""
        tokens = sum(int(part["attention_mask"].sum()) for part in self._texts())
        return {"pairs": len(self), "text_tokens": tokens}

    def _texts(self) -> list[Inputs]:
        return [self.inputs[name] for name in ("text", "question") if name in self.inputs]

    def _map(self, change: Callable[[Tensor], Tensor]) -> PairBatch:
        inputs = {
            modality: {name: change(tensor) for name, tensor in part.items()}
            for modality, part in self.inputs.items()
        }
        return PairBatch(inputs, self.keys, self.groups, self.normalizers, self.examples)


@dataclass
class PairEncoder:
    """Encoder of media-text pairs.

    Attributes:
        tokenizer: A Hugging Face tokenizer.
        decode: Modality -> reads its media, for example `zoo.media.decode_picture`.
        max_text_tokens: Longer texts are cut there.
        records: Record types that are taken.
    """

    tokenizer: Any
    decode: Mapping[str, Callable[[Media], Tensor]]
    max_text_tokens: int = 64
    records: tuple[type, ...] = (MediaText,)

    def __call__(self, record: MediaText) -> list[PairExample]:
        """Return an example for every text of a record.

        Raises:
            InputError: It has no text, an empty one, or media of another modality.
        """
        if record.modality not in self.decode:
            raise InputError(
                f"{record.id}: {record.modality} where the method has encoders for "
                f"{', '.join(self.decode)}"
            )
        if not record.texts or not all(text.strip() for text in record.texts):
            raise InputError(f"{record.id}: no text, or an empty one")
        question = self.ids(record.question) if record.question else []
        return [PairExample(text, self.ids(text), question, record) for text in record.texts]

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text with the special tokens that its encoder expects."""
        cut = {"truncation": True, "max_length": self.max_text_tokens}
        return self.tokenizer(text, split_special_tokens=True, **cut)["input_ids"]

    def collate(self, examples: Sequence[PairExample], normalizers: dict[int, float]) -> PairBatch:
        """Decode the media and join the pairs; runs in the loader's workers.

        Raises:
            InputError: A medium cannot be decoded; names it. Or modalities are mixed.
        """
        modality = examples[0].record.modality
        if any(example.record.modality != modality for example in examples):
            raise InputError(f"{examples[0].record.id}: modalities are mixed in one batch")
        inputs = {
            modality: self.media_inputs(modality, [e.record.media for e in examples]),
            "text": self.pad([example.ids for example in examples]),
        }
        keys = {
            modality: [example.record.media.key for example in examples],
            "text": [example.text for example in examples],
        }
        if all(example.question_ids for example in examples):
            inputs["question"] = self.pad([example.question_ids for example in examples])
            keys["question"] = [example.record.question for example in examples]
        groups = [example.group for example in examples]
        normalizers = normalizers or sum_head_weights(examples)
        return PairBatch(inputs, keys, groups, normalizers, list(examples))

    def media_inputs(self, modality: str, media: Sequence[Media]) -> Inputs:
        """Return what the encoder of a modality takes."""
        name = "pixel_values" if modality == "image" else "input_values"
        return {name: torch.stack([self.decode[modality](item) for item in media])}

    def text_inputs(self, texts: Sequence[str]) -> Inputs:
        """Return what the text encoder takes."""
        return self.pad([self.ids(text) for text in texts])

    def pad(self, rows: Sequence[Sequence[int]]) -> Inputs:
        """Return right-padded ids with their mask, `(B, L)`."""
        ids, mask = pad_rows(rows, self.tokenizer.pad_token_id)
        return {"input_ids": ids, "attention_mask": mask}

    def preview(self, example: PairExample) -> list[str]:
        """Return lines that show a pair."""
        lines = [f"media       {example.record.media.name}", f"text        {example.text}"]
        if example.record.question:
            lines.insert(1, f"question    {example.record.question}")
        return lines
