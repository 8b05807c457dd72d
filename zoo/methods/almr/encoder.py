"""Encoder of the three stages: a text is learned whole, an answer alone, two answers as a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from zoo.encoding import NO_HEAD, Batch, Example, extended, unlearned
from zoo.errors import InputError
from zoo.methods.almr.choices import as_triple, letter_ids
from zoo.prompts.thoughts import ThoughtEncoder, answer_turns, question
from zoo.records import Dialogue, PlainText, Preference, Question, Triple

ANSWER, TEXT, PAIR = 0, 1, 2  # what is learned; all by the one language head


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """Two encoded answers to one prompt.

    Attributes:
        chosen: Prompt and preferred answer, the answer supervised.
        rejected: Prompt and the other answer.
        record: The record.
    """

    chosen: Example
    rejected: Example
    record: Preference

    def __len__(self) -> int:
        """Return the number of tokens that a step runs."""
        return len(self.chosen) + len(self.rejected)

    def head_weights(self) -> dict[int, float]:
        """Return one pair."""
        return {PAIR: 1.0}


@dataclass(slots=True)
class StageBatch(Batch):
    """Sequences of one stage.

    Attributes:
        kinds: The `kind` of each sequence's record, where records are kept; else empty texts.
        pairs: Number of pairs; their preferred answers are the first half of the sequences.
    """

    kinds: list[str] = field(default_factory=list)
    pairs: int = 0


@dataclass
class StageEncoder(ThoughtEncoder):
    """Encoder of texts, questions with answers or options, dialogues, and preferred answers.

    A text is cut into windows; each token but the first is a target, and so is the end of the text.
    `datamodules.MixtureCorpus` lays texts end to end and asks for blocks of them.
    """

    records: ClassVar[tuple[type, ...]] = (PlainText, Triple, Question, Dialogue, Preference)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.end_id: int = self.tokenizer.eos_token_id

    def __call__(self, record: PlainText | Triple | Question | Dialogue | Preference) -> list[Any]:
        """Return the examples of a record.

        Raises:
            InputError: A text or an answer is empty.
            TooLongError: A question with its answer is longer than the window.
        """
        if isinstance(record, PlainText):
            return self.windows(record)
        if isinstance(record, Preference):
            return [self.pair(record)]
        if isinstance(record, Question):
            return [self.choice(record)]
        return super().__call__(record)

    def windows(self, record: PlainText) -> list[Example]:
        """Return a text in windows of at most `max_length` tokens."""
        if not record.text.strip():
            raise InputError(f"{record.id or 'text'}: the field 'text' is empty")
        ids, size = self.document_ids(record.text), self.max_length
        cuts = range(0, len(ids) - 1, size)  # each begins with the last target of the one before
        return [self.block(ids[i : i + size + 1], record) for i in cuts]

    def document_ids(self, text: str) -> list[int]:
        """Return the token ids of a text, with the tokenizer's start if it has one, and its end."""
        return [*self.opened(text), self.end_id]

    def opened(self, text: str) -> list[int]:
        """Return the token ids of a text that may go on, with the tokenizer's start if any."""
        start = self.tokenizer.bos_token_id
        return [*([] if start is None else [start]), *self.ids(text)]

    def block(self, ids: Sequence[int], record: PlainText | None = None) -> Example:
        """Return an example of n tokens, each with the next one as target, from n + 1 token ids."""
        size = len(ids) - 1
        return Example(list(ids[:-1]), list(ids[1:]), [TEXT] * size, [1.0] * size, record)

    def choice(self, record: Question) -> Example:
        """Return a question with options; the letter of the right one is learned, nothing else."""
        example = unlearned(self.prompt(record))
        right = letter_ids(self.tokenizer, len(record.options))[record.gold]
        example.labels[-1], example.head_ids[-1], example.weights[-1] = right, ANSWER, 1.0
        return replace(example, record=record)

    def pair(self, record: Preference) -> AnswerPair:
        """Return the two answers of a record, each behind the same prompt."""
        opening = question(self.chat, asked(record))
        examples = []
        for name in ("chosen", "rejected"):
            text = getattr(record, name)
            if not text.strip():
                raise InputError(f"{record.id or 'pair'}: the field {name!r} is empty")
            turns = answer_turns(self.chat, "", text, think=None, speak=ANSWER)
            examples.append(self.encode([*opening, *turns], record))
        return AnswerPair(examples[0], examples[1], record)

    def prompt(self, record: Any) -> list[int]:
        """Return the token ids before what is generated.

        Of a text that is its first half, of which at most the last half window; a question with
        options ends in its cue; all others await the turn of the assistant.
        """
        if isinstance(record, PlainText):
            return self.opened(asked(record).query)[-(self.max_length // 2) :]
        if isinstance(record, Question):
            return self.check_prompt(self.opened(asked(record).query), record)
        return super().prompt(asked(record))

    def gold(self, record: Any) -> tuple[str, str]:
        """Return no thought, and what a generation is compared with: of a text, its second half."""
        return super().gold(asked(record))

    def collate(self, examples: Sequence[Any], normalizers: dict[int, float]) -> StageBatch:
        """Join examples of one stage into a batch.

        Raises:
            InputError: Pairs are mixed with other examples.
        """
        pairs = [example for example in examples if isinstance(example, AnswerPair)]
        if pairs and len(pairs) < len(examples):
            raise InputError("data: preferred answers are mixed with other records; train in turn")
        rows = [p.chosen for p in pairs] + [p.rejected for p in pairs] if pairs else examples
        normalizers = normalizers or ({PAIR: float(len(pairs))} if pairs else {})
        batch = super().collate(rows, normalizers)
        kinds = [getattr(example.record, "kind", "") or "" for example in rows]
        return extended(StageBatch, batch, kinds=kinds, pairs=len(pairs))

    def preview(self, example: Any) -> list[str]:
        """Return lines that show an example; of a pair, both answers."""
        parts = [example.chosen, example.rejected] if isinstance(example, AnswerPair) else [example]
        return [line for part in parts for line in super(StageEncoder, self).preview(part)]


def asked(record: Any) -> Any:
    """Return what is asked and what would be right: halves of a text, a letter, the preferred."""
    if isinstance(record, Question):
        return as_triple(record)
    if isinstance(record, PlainText):
        half = (len(record.text) + 1) // 2
        return Triple(record.text[:half], "", record.text[half:], kind=record.kind, id=record.id)
    if isinstance(record, Preference):
        return Triple(record.query, "", record.chosen, record.system, record.kind, record.id)
    return record


def only(batch: StageBatch, kind: str) -> Any:
    """Return the head of each token, `NO_HEAD` outside the sequences of a kind."""
    keep = [name == kind for name in batch.kinds]
    heads = batch.head_ids.clone()
    flat = heads.view(-1)
    width = heads.shape[1]
    for i, kept in enumerate(keep):
        if not kept and batch.offsets is not None:
            flat[int(batch.offsets[i]) : int(batch.offsets[i + 1])] = NO_HEAD
        elif not kept:
            flat[i * width : (i + 1) * width] = NO_HEAD
    return heads
