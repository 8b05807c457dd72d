"""Evaluation of methods that answer with text: replies, their accuracy, samples, chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

from zoo.evaluation import EvaluatedModule, Pair
from zoo.metrics.answers import AnswerAccuracy, mentions
from zoo.records import SUPPORTER, Dialogue, Triple, Turn, awaiting_reply, opened_by_seeker


class ReplyingModule(EvaluatedModule):
    """A module that answers with text: `generate` returns `zoo.decoding.think_answer.Reply`s.

    `accuracy` of queries is strict (equal after normalising); for `mention_accuracy` the right
    answer may stand anywhere in the reply. Both are logged in total and by kind.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_generated: Records to answer in each validation or test; None for all.
    """

    reply_setting: ClassVar[str | None] = "max_answer_tokens"

    def __init__(self, backbone: Any, optimizer: Any, *, max_generated: int | None) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.metrics["accuracy"] = AnswerAccuracy()
        self.metrics["mention_accuracy"] = AnswerAccuracy(mentions, "mention_accuracy")

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Count the right answers to queries; dialogues have none."""
        asked = [(*p, name) for p, name in zip(pairs, ids, strict=True) if isinstance(p[0], Triple)]
        for metric in self.each_metric().values():
            metric.update(
                [reply.answer for _, reply, _ in asked],
                [record.answer for record, _, _ in asked],
                [[record.kind] for record, _, _ in asked],
                [name for _, _, name in asked],
            )

    def sample(self, record: Triple | Dialogue, answer: Any) -> dict[str, str]:
        """Return the row that TensorBoard shows of a reply."""
        thought, gold = self.encoder().gold(record)
        return {
            "query": last_words(record),
            "thought": answer.thought,
            "answer": answer.answer,
            "gold thought": thought,
            "gold answer": gold,
        }

    def prediction(self, record: Triple | Dialogue, answer: Any) -> dict[str, Any]:
        """Return the reply's parts by name."""
        return {"id": record.id, **asdict(answer)}

    def show(
        self, records: Sequence[Any], *, prompt: str | None = None, **options: Any
    ) -> list[dict[str, str]]:
        """Return what was asked, thought and answered, with the gold beside it.

        Args:
            records: What to answer.
            prompt: Answer this instead, as what a seeker says where the records are dialogues.
            options: See `generate`.
        """
        records = [asked_like(records, prompt)] if prompt else records
        rows = []
        for record, reply in zip(records, self.generate(records, **options), strict=True):
            gold = ("", "") if prompt else self.encoder().gold(record)
            row = {"query": prompt or getattr(record, "query", record.id)}
            for name, text, right in zip(
                ("thought", "answer"), (reply.thought, reply.answer), gold, strict=True
            ):
                row[name] = text + (f"   [gold: {right}]" if right else "")
            rows.append(row)
        return rows

    def converse(
        self, dialogue: Dialogue, *, temperature: float = 0.0
    ) -> tuple[dict[str, str], Dialogue]:
        """Return the thought beside a reply, and the dialogue with the reply and its thought."""
        (reply,) = self.generate([awaiting_reply(dialogue)], temperature=temperature)
        turns = (*dialogue.turns, Turn(SUPPORTER, reply.answer, thought=reply.thought))
        notes = {"thought": reply.thought} if reply.thought else {}
        return notes, replace(dialogue, turns=turns)


def asked_like(records: Sequence[Any], prompt: str) -> Triple | Dialogue:
    """Return a text as the start of a dialogue where dialogues are given, else as a query.

    The system line is that of the first record, if it has one.
    """
    system = getattr(records[0], "system", "") if records else ""
    if records and isinstance(records[0], Dialogue):
        return replace(awaiting_reply(opened_by_seeker(prompt)), system=system)
    return Triple(prompt, "", "", system=system)


def last_words(record: Triple | Dialogue) -> str:
    """Return what a reply answers: the query, or the turns before a dialogue's last reply."""
    if isinstance(record, Triple):
        return record.query
    return "\n".join(f"{turn.speaker}: {turn.text}" for turn in record.turns[-4:-1])
