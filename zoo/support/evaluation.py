"""Evaluation of methods that reply as a supporter: strategies, texts, turn depth, samples, chat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

from zoo.evaluation import EvaluatedModule, Pair
from zoo.losses.cross_entropy import Term, head_loss
from zoo.optimizer import Optimizer
from zoo.records import SUPPORTER, Dialogue, Turn, opened_by_seeker
from zoo.support.decisions import Decision, current_decision, description, transcript
from zoo.support.encoder import SPEAK
from zoo.support.labels import EMOTION_SETS, SUPPORT, Labels
from zoo.support.reply import AnsweredDecision, SupportReply
from zoo.support.scores import ReplyScores, reply_figures

DEFAULTS = Optimizer(
    lr=5e-6, schedule="cosine", warmup_ratio=0.03, weight_decay=0.0, beta2=0.95, final_ratio=0.1
)
"""Settings of straQ*'s released launch script, for the papers of its group."""
LAST_TURNS = 4  # of a state, in samples
DRAWS = {"val": 0, "test": 1000}  # of the bootstrap, for intervals


class TalkingModule(EvaluatedModule):
    """A module with `respond(records)`; its encoder's examples have decisions as records.

    Its `metrics` hold `ReplyScores` as `replies`.
    """

    headline: ClassVar[tuple[str, ...]] = ("accuracy", "bleu_2")
    reply_setting: ClassVar[str | None] = "max_new_tokens"
    labels: Labels = SUPPORT
    emotions: Labels = EMOTION_SETS["esconv"]
    temperature: float = 0.0

    def respond(self, records: Sequence[Dialogue | Decision], **options: Any) -> list[SupportReply]:
        """Return what the supporter does at the current decision of each record."""
        raise TypeError(f"{type(self).__name__} does not implement respond(records)")

    def gold_emotion(self, decision: Decision) -> str:
        """Return the annotated emotion that a recognised one is compared with; may be empty."""
        return self.emotions.known(decision.emotion) or ""

    def losses(self, batch: Any) -> dict[str, Term]:
        """Return the mean over the tokens of the replies; nothing if nothing is trained."""
        if self.untrained():
            return {}
        return {"speak": head_loss(self(batch), batch, SPEAK, *self.output_head)}

    # -- evaluation ----------------------------------------------------------------------------

    def answer(self, records: Sequence[Decision]) -> list[SupportReply]:
        """Return what the supporter does at each decision."""
        return self.respond(records)

    def prediction(self, record: Decision, answer: SupportReply) -> dict[str, Any]:
        """Return what was done at a decision, beside what the data have there."""
        return {
            "id": record.id,
            "emotion": answer.emotion,
            "strategy": answer.strategy,
            "reply": answer.reply,
            **dict(answer.steps),
            "failed": list(answer.failed),
            "gold_emotion": self.gold_emotion(record),
            "gold_strategy": record.target.strategy,
            "gold_reply": record.target.text,
        }

    def sample(self, record: Decision, answer: SupportReply) -> dict[str, str]:
        """Return the row that shows a decision: the state, the steps, the reply and the gold."""
        gold = record.target
        row = {"state": state_text(record), **self.notes(answer), "reply": answer.reply}
        right = f"({gold.strategy}) {gold.text}" if gold.strategy else gold.text
        return row | {"gold": right} if gold.text else row

    def notes(self, answer: SupportReply) -> dict[str, str]:
        """Return what to show beside a reply."""
        named = {"emotion": answer.emotion, "strategy": answer.strategy}
        shown = {name: text for name, text in named.items() if text} | dict(answer.steps)
        if answer.failed:
            shown["not understood"] = ", ".join(answer.failed)
        return shown

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Add replies to their scores."""
        self.each_metric()["replies"].update(self.answered_decisions(pairs), ids)

    def prepare_metrics(self, stage: str) -> None:
        """Ask for intervals over dialogues in a test."""
        cast(ReplyScores, self.metrics["replies"]).draws = DRAWS[stage]

    def figures(self) -> dict[str, Any]:
        """Return the strategies' confusion and transitions, and the emotions' confusion."""
        return reply_figures(
            self.answered_decisions(self.answers.values()), self.labels, self.emotions
        )

    def answered_decisions(self, pairs: Iterable[Pair]) -> list[AnsweredDecision]:
        """Return decisions and replies with the emotions that were right."""
        return [
            AnsweredDecision(record, answer, self.gold_emotion(record)) for record, answer in pairs
        ]

    # -- verbs ---------------------------------------------------------------------------------

    def show(
        self, records: Sequence[Any], *, prompt: str | None = None, **options: Any
    ) -> list[dict[str, str]]:
        """Return the state, the steps and the reply for each record.

        Args:
            records: Dialogues; the current decision of each is taken.
            prompt: Answer a seeker who says this instead.
            options: See `respond`.
        """
        asked = [opened_by_seeker(prompt)] if prompt else records
        states = [current_decision(record, self.labels) for record in asked]
        replies = self.respond(states, **options)
        return [self.sample(*pair) for pair in zip(states, replies, strict=True)]

    def converse(
        self, dialogue: Dialogue, *, temperature: float = 0.0, **options: Any
    ) -> tuple[dict[str, str], Dialogue]:
        """Return what to show beside a reply, and the dialogue with the reply.

        Args:
            dialogue: Ends with a seeker's turn.
            temperature: Of a second try; 0 for the method's own.
            options: See `respond`.
        """
        own = self.temperature
        self.temperature = temperature or own
        try:
            (answer,) = self.respond([dialogue], **options)
        finally:
            self.temperature = own
        turn = Turn(SUPPORTER, answer.reply, strategy=answer.strategy)
        return self.notes(answer), replace(dialogue, turns=(*dialogue.turns, turn))


def state_text(decision: Decision) -> str:
    """Return what is known at a decision and the last turns, for samples."""
    known, turns = description(decision), transcript(decision.turns[-LAST_TURNS:])
    return f"{known}\n{turns}" if known else turns
