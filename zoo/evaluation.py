"""Evaluation shared by the methods that answer records with text: loss, replies, accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
import torch.distributed

from zoo.encoding import Batch
from zoo.losses.cross_entropy import Term
from zoo.metrics.answers import KindAccuracy, exact, mentions
from zoo.module import ZooModule
from zoo.prompts.thoughts import ThoughtEncoder
from zoo.records import SUPPORTER, Dialogue, Triple, Turn, awaiting_reply


class ReplyingModule(ZooModule):
    """A module with `losses(batch)` and `generate(records)`; evaluates both.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_generated: Records to answer in each validation or test; None for all.
    """

    def __init__(self, backbone: Any, optimizer: Any, *, max_generated: int | None) -> None:
        super().__init__(backbone, optimizer)
        self.max_generated = max_generated

    def losses(self, batch: Any) -> dict[str, Term]:
        """Return the loss terms of a batch."""
        raise TypeError(f"{type(self).__name__} does not implement losses(batch)")

    def generate(self, records: Sequence[Any], **options: Any) -> Sequence[Any]:
        """Return a reply to each record."""
        raise TypeError(f"{type(self).__name__} does not implement generate(records)")

    def show(
        self, records: Sequence[Any], *, prompt: str | None = None, thought: str | None = None
    ) -> list[dict[str, str]]:
        """Return what was asked, thought and answered, with the gold beside it.

        Args:
            records: What to answer.
            prompt: Answer this instead.
            thought: Use this thought instead of decoding one; an empty one skips it.
        """
        records = [Triple(prompt, "", "")] if prompt else records
        options = {} if thought is None else {"thoughts": [thought] * len(records)}
        rows = []
        for record, reply in zip(records, self.generate(records, **options), strict=True):
            gold = ("", "") if prompt else self.encoder().gold(record)
            row = {"query": getattr(record, "query", record.id)}
            for name, text, wanted in zip(
                ("thought", "answer"), (reply.thought, reply.answer), gold, strict=True
            ):
                row[name] = text + (f"   [gold: {wanted}]" if wanted else "")
            rows.append(row)
        return rows

    def converse(self, dialogue: Dialogue) -> tuple[dict[str, str], Dialogue]:
        """Return the thought beside a reply, and the dialogue with the reply.

        Raises:
            InputError: The method takes no dialogues.
        """
        if Dialogue not in self.takes:
            return super().converse(dialogue)
        (reply,) = self.generate([awaiting_reply(dialogue)])
        turns = (*dialogue.turns, Turn(SUPPORTER, reply.answer))
        notes = {"thought": reply.thought} if reply.thought else {}
        return notes, replace(dialogue, turns=turns)

    def on_validation_epoch_start(self) -> None:
        """Start counting answers."""
        self._exact, self._mentions, self._generated = KindAccuracy(), KindAccuracy(), 0

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Log the loss terms; answer the records, up to `max_generated` per epoch."""
        return self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log accuracy by kind of question."""
        self._log_accuracy("val")

    def on_test_epoch_start(self) -> None:
        """Start counting answers."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Do what `validation_step` does, on the test split."""
        return self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log accuracy by kind of question."""
        self._log_accuracy("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        """Return the reply to each record of the batch."""
        replies = zip(batch.records, self.generate(batch.records), strict=True)
        return [{"id": record.id, **asdict(reply)} for record, reply in replies]

    def _evaluate(self, stage: str, batch: Batch) -> dict[str, Any]:
        self.log_terms(stage, self.losses(batch))
        left = len(batch.records)
        if self.max_generated is not None:
            left = min(left, self.max_generated - self._generated)
        records = batch.records[: max(0, left)]
        if not records:
            return {"samples": []}
        self._generated += len(records)
        replies = self.generate(records)
        filler = math.inf in batch.normalizers.values()  # another process counts these records
        samples = []
        for record, reply in zip(records, replies, strict=True):
            if not filler:
                self.score(record, reply)
            samples.append(self.sample(record, reply))
        return {"samples": samples}

    def score(self, record: Any, reply: Any) -> None:
        """Count a reply if the record has an answer to compare it with."""
        if isinstance(record, Triple):
            self._exact.add(record.kind, exact(reply.answer, record.answer))
            self._mentions.add(record.kind, mentions(reply.answer, record.answer))

    def sample(self, record: Any, reply: Any) -> dict[str, str]:
        """Return the row that TensorBoard shows of a reply."""
        encoder: ThoughtEncoder = self.encoder()
        thought, answer = encoder.gold(record)
        return {
            "query": last_words(record),
            "thought": reply.thought,
            "answer": reply.answer,
            "gold thought": thought,
            "gold answer": answer,
        }

    def _log_accuracy(self, stage: str) -> None:
        counts = [(dict(self._exact.counts), dict(self._mentions.counts))]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            counts = [counts[0]] * self.trainer.world_size
            torch.distributed.all_gather_object(
                counts, (dict(self._exact.counts), dict(self._mentions.counts))
            )
        strict, lenient = KindAccuracy(), KindAccuracy()
        for exact_counts, mention_counts in counts:
            strict.merge(exact_counts)
            lenient.merge(mention_counts)
        for name, value in strict.result().items():
            self.log(f"{stage}/{name}", value, prog_bar=name == "accuracy", rank_zero_only=False)
        for name, value in lenient.result().items():
            self.log(f"{stage}/mention_{name}", value)


def last_words(record: Triple | Dialogue) -> str:
    """Return what a reply answers: the query, or the turns before a dialogue's last reply."""
    if isinstance(record, Triple):
        return record.query
    return "\n".join(f"{turn.speaker}: {turn.text}" for turn in record.turns[-4:-1])
