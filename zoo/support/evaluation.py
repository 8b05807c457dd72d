"""Evaluation of methods that talk as a supporter: strategies, texts, turn depth, samples, chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term
from zoo.module import Optimizer, ZooModule, total_loss
from zoo.nn.blocks import Blocks, num_blocks, place
from zoo.records import SUPPORTER, Dialogue, Turn, opened_by_seeker
from zoo.support.decisions import Decision, current_decision, description, transcript
from zoo.support.labels import EMOTION_SETS, SUPPORT, Labels
from zoo.support.reply import AnsweredDecision, SupportReply
from zoo.support.scores import reply_figures, reply_scores

DEFAULTS = Optimizer(
    lr=5e-6, schedule="cosine", warmup_ratio=0.03, weight_decay=0.0, beta2=0.95, final_ratio=0.1
)
"""Of the group's launcher (that of straQ*)."""
LAST_TURNS = 4  # of a state, in samples
DRAWS = 1000  # for the intervals of a test


class TalkingModule(ZooModule):
    """A module with `respond(records)`; its encoder's examples have decisions as records.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_generated: Decisions to reply to in each validation or test; None for all.
    """

    labels: Labels = SUPPORT
    emotions: Labels = EMOTION_SETS["esconv"]
    topics: tuple[str, ...] = ()  # names beyond labels and emotions whose tags are no words
    task_weights: dict[str, float] | None = None  # of the loss terms; None for ones

    def __init__(self, backbone: Any, optimizer: Any, *, max_generated: int | None) -> None:
        super().__init__(backbone, optimizer)
        self.max_generated = max_generated
        self.found: dict[str, tuple[Decision, SupportReply]] = {}

    def respond(self, records: Sequence[Dialogue | Decision]) -> list[SupportReply]:
        """Return what is said at the current decision of each record."""
        raise TypeError(f"{type(self).__name__} does not implement respond(records)")

    def gold_emotion(self, decision: Decision) -> str:
        """Return the annotated emotion that a recognised one is compared with; may be empty."""
        return self.emotions.known(decision.emotion) or ""

    # -- training ------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Return the residual stream after the last block, `(B, L, D)`."""
        return Blocks(self.lm, 0, num_blocks(self.lm))(batch.input_ids, **place(batch))

    def losses(self, batch: Any) -> dict[str, Term]:
        """Return the loss terms of a batch; none by default."""
        return {}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the sum of the terms by their weights."""
        terms = self.losses(batch)
        self.log_terms("train", terms)
        return total_loss(terms, self.task_weights)

    # -- evaluation ----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Forget the replies of the last validation."""
        self.found = {}

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Log the losses; reply at new decisions, up to `max_generated` per epoch."""
        return self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the replies."""
        self._log_scores("val", 0)

    def on_test_epoch_start(self) -> None:
        """Forget the replies of the last test."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Do what `validation_step` does, on the test split."""
        return self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log the scores of the replies, with intervals over dialogues."""
        self._log_scores("test", DRAWS)

    def on_predict_epoch_start(self) -> None:
        """Forget earlier replies."""
        self.on_validation_epoch_start()

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """Return what is said at each decision of the batch that is new."""
        pairs = self._reply(batch.records, None)
        return [
            {
                "id": decision.id,
                "emotion": one.emotion,
                "strategy": one.strategy,
                "reply": one.reply,
                **dict(one.steps),
                "failed": list(one.failed),
                "gold_emotion": self.gold_emotion(decision),
                "gold_strategy": decision.target.strategy,
                "gold_reply": decision.target.text,
            }
            for decision, one in pairs
        ]

    def _evaluate(self, stage: str, batch: Any) -> dict[str, Any]:
        self.log_terms(stage, self.losses(batch))
        room = None if self.max_generated is None else self.max_generated - len(self.found)
        pairs = self._reply(batch.records, room)
        return {"samples": [self.sample(decision, one) for decision, one in pairs]}

    def _reply(
        self, records: Sequence[Decision], room: int | None
    ) -> list[tuple[Decision, SupportReply]]:
        """Reply at the decisions that are new, at most `room`, and keep what was said."""
        new = {d.id: d for d in records if d.id not in self.found}
        asked = list(new.values())[: None if room is None else max(0, room)]
        if self.everyone_done(not asked):
            return []
        # A process without new decisions replies along: others may need its share of the weights.
        found = self.respond(asked or records[:1])[: len(asked)]
        pairs = list(zip(asked, found, strict=True))
        self.found |= {decision.id: (decision, one) for decision, one in pairs}
        return pairs

    def sample(self, decision: Decision, one: SupportReply) -> dict[str, str]:
        """Return the row that shows a decision: the state, the steps, the reply and the gold."""
        known, told = description(decision), transcript(decision.turns[-LAST_TURNS:])
        gold = decision.target
        row = {"state": f"{known}\n{told}" if known else told}
        row |= self.notes(one)
        row["reply"] = one.reply
        right = f"({gold.strategy}) {gold.text}" if gold.strategy else gold.text
        return row | {"gold": right} if gold.text else row

    def notes(self, one: SupportReply) -> dict[str, str]:
        """Return what to show beside a reply."""
        named = {"emotion": one.emotion, "strategy": one.strategy}
        shown = {name: text for name, text in named.items() if text} | dict(one.steps)
        if one.failed:
            shown["not understood"] = ", ".join(one.failed)
        return shown

    def _log_scores(self, stage: str, draws: int) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            everyone: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(everyone, self.found)
            self.found = {name: one for part in everyone for name, one in part.items()}
        if not self.found:
            return
        for name, value in self.scores(draws).items():
            self.log(f"{stage}/{name}", float(value), prog_bar=name in ("accuracy", "bleu_2"))

    def scores(self, draws: int = 0) -> dict[str, float]:
        """Return the scores of all replies so far (see `zoo.support.scores.reply_scores`)."""
        return reply_scores(self.answered(), labels=self.labels, topics=self.topics, draws=draws)

    def figures(self) -> dict[str, Any]:
        """Return the strategies' confusion and transitions, and the emotions' confusion."""
        return reply_figures(self.answered(), self.labels, self.emotions)

    def answered(self) -> list[AnsweredDecision]:
        """Return every reply so far with its decision and the emotion that was right."""
        return [AnsweredDecision(d, one, self.gold_emotion(d)) for d, one in self.found.values()]

    # -- verbs ---------------------------------------------------------------------------------

    def show(
        self, records: Sequence[Any], *, prompt: str | None = None, thought: str | None = None
    ) -> list[dict[str, str]]:
        """Return the state, the steps and the reply for each record.

        Args:
            records: Dialogues; the current decision of each is taken.
            prompt: Answer a seeker who says this instead.
            thought: Not used by methods that choose everything themselves.

        Raises:
            InputError: `thought` is given.
        """
        if thought is not None:
            raise InputError(f"thought: {type(self).__name__} has no thoughts")
        asked = [opened_by_seeker(prompt)] if prompt else records
        states = [current_decision(record, self.labels) for record in asked]
        pairs = zip(states, self.respond(states), strict=True)
        return [self.sample(state, one) for state, one in pairs]

    def converse(self, dialogue: Dialogue) -> tuple[dict[str, str], Dialogue]:
        """Return what to show beside a reply, and the dialogue with the reply.

        Args:
            dialogue: Ends with a seeker's turn.
        """
        (one,) = self.respond([dialogue])
        turn = Turn(SUPPORTER, one.reply, strategy=one.strategy)
        return self.notes(one), replace(dialogue, turns=(*dialogue.turns, turn))
