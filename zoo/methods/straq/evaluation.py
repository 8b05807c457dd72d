"""Evaluation of methods that plan support strategies by values: Acc, Q, B, figures, samples."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from zoo.errors import InputError
from zoo.losses.cross_entropy import Term
from zoo.methods.straq.encoder import TransitionBatch, TransitionEncoder
from zoo.methods.straq.plots import value_bars
from zoo.module import ZooModule, evaluating
from zoo.records import SUPPORTER, Dialogue, Turn, opened_by_seeker
from zoo.support.decisions import Decision, current_decision, description, transcript
from zoo.support.labels import EMOTION_SETS, SUPPORT, Labels
from zoo.support.reply import AnsweredDecision, SupportReply
from zoo.support.scores import reply_figures, reply_scores
from zoo.support.strategy_metrics import count_pairs, strategy_scores

NUM_SHOWN = 6  # states with their values in a figure
LAST_TURNS = 4  # of a state, in samples
DRAWS = 1000  # for the intervals of a test
TEXT = re.compile(
    r"((early|late)/)?(bleu|rouge|meteor|cider|distinct|length|answers|reply_failed)"
)  # scores

Respond = Callable[[Sequence[Decision], Sequence[str], torch.device], list[str]]


@dataclass(frozen=True, slots=True)
class Plan:
    """A strategy, and the values of all strategies in canonical order."""

    strategy: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What was planned for a decision, and the reply if one was written."""

    decision: Decision
    plan: Plan
    reply: str | None

    @property
    def answered(self) -> AnsweredDecision:
        """The plan and reply in the form that `zoo.support.scores` takes."""
        failed = () if self.reply else ("reply",)
        answer = SupportReply(self.reply or "", self.plan.strategy, failed=failed)
        return AnsweredDecision(self.decision, answer, "")


class PlanningModule(ZooModule):
    """A module whose `forward(prompts)` gives values `(S, K)`; it adds `losses(batch)`.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_generated: Decisions to write a reply for in each validation or test; None for all.
    """

    labels: Labels = SUPPORT
    responder: Respond | None = None

    def __init__(self, backbone: Any, optimizer: Any, *, max_generated: int | None) -> None:
        super().__init__(backbone, optimizer)
        self.max_generated = max_generated
        self.found: dict[str, Found] = {}

    def losses(self, batch: TransitionBatch) -> tuple[dict[str, Term], Tensor]:
        """Return the loss terms of a batch, and the values of its states, `(S, K)`."""
        raise TypeError(f"{type(self).__name__} does not implement losses(batch)")

    @evaluating
    def plan(self, records: Sequence[Dialogue | Decision]) -> list[Plan]:
        """Return the best strategy for the current state of each record, with all values.

        Args:
            records: Decisions, or dialogues that are to be continued.
        """
        encoder: TransitionEncoder = self.encoder()
        states = [current_decision(record, self.labels) for record in records]
        batch = encoder.prompts([encoder.state(state) for state in states]).to(self.device)
        return self.plans(self(batch))

    def reply(
        self, records: Sequence[Dialogue | Decision], plans: Sequence[Plan] | None = None
    ) -> list[str]:
        """Return the responder's reply by each plan.

        Args:
            records: As for `plan`.
            plans: What to follow; None plans first.

        Raises:
            InputError: There is no responder.
        """
        if self.responder is None:
            raise InputError(
                "model.responder: name a model to write replies with, for example "
                "--model.responder.name smollm2-135m"
            )
        plans = self.plan(records) if plans is None else plans
        states = [current_decision(record, self.labels) for record in records]
        return self.responder(states, [plan.strategy for plan in plans], self.device)

    def plans(self, values_SK: Tensor) -> list[Plan]:
        """Return the strategy with the highest value of each state, the first of equal ones."""
        rows = values_SK.float().tolist()
        best = [max(range(len(row)), key=row.__getitem__) for row in rows]
        pairs = zip(best, rows, strict=True)
        return [Plan(self.labels.names[i], tuple(row)) for i, row in pairs]

    # -- evaluation ----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Forget the plans of the last validation."""
        self.found = {}

    def validation_step(self, batch: TransitionBatch, batch_idx: int) -> dict[str, Any]:
        """Log the losses; keep the plan of every state, with replies up to `max_generated`."""
        return self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the plans."""
        self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        """Forget the plans of the last test."""
        self.on_validation_epoch_start()

    def test_step(self, batch: TransitionBatch, batch_idx: int) -> dict[str, Any]:
        """Do what `validation_step` does, on the test split."""
        return self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log the scores of the plans and of the replies that were written."""
        self._log_scores("test")

    def predict_step(self, batch: TransitionBatch, batch_idx: int) -> list[dict[str, Any]]:
        """Return the plan of each decision, with the reply if there is a responder."""
        plans = self.plan(batch.records)
        replies = self.reply(batch.records, plans) if self.responder else [None] * len(plans)
        return [
            {
                "id": decision.id,
                "strategy": plan.strategy,
                "values": dict(zip(self.labels.names, plan.values, strict=True)),
                "gold": decision.target.strategy,
                **({} if reply is None else {"reply": reply, "gold_reply": decision.target.text}),
            }
            for decision, plan, reply in zip(batch.records, plans, replies, strict=True)
        ]

    def _evaluate(self, stage: str, batch: TransitionBatch) -> dict[str, Any]:
        terms, values_SK = self.losses(batch)
        self.log_terms(stage, terms)
        pairs = zip(batch.records, self.plans(values_SK), strict=True)
        new = {d.id: (d, plan) for d, plan in pairs if d.id not in self.found}
        room = len(new) if self.max_generated is None else self.max_generated - len(self.found)
        shown = list(new.values())[: max(0, room)]
        replies: list[str | None] = [None] * len(shown)
        if shown and self.responder:
            replies = [*self.reply([d for d, _ in shown], [plan for _, plan in shown])]
        written = {d.id: text for (d, _), text in zip(shown, replies, strict=True)}
        for name, (decision, plan) in new.items():
            self.found[name] = Found(decision, plan, written.get(name))
        return {
            "samples": [
                self._sample(decision, plan, reply)
                for (decision, plan), reply in zip(shown, replies, strict=True)
            ]
        }

    def _sample(self, decision: Decision, plan: Plan, reply: str | None) -> dict[str, str]:
        told = transcript(decision.turns[-LAST_TURNS:])
        known = description(decision)
        gold = decision.target
        ranked = sorted(zip(plan.values, self.labels.names, strict=True), key=lambda pair: -pair[0])
        sample = {
            "state": f"{known}\n{told}" if known else told,
            "Q": ", ".join(f"{name} {value:.2f}" for value, name in ranked),
            "strategy": plan.strategy + (f"   [gold: {gold.strategy}]" if gold.strategy else ""),
        }
        if reply is not None:
            sample["reply"] = reply + (f"   [gold: {gold.text}]" if gold.text else "")
        return sample

    def _log_scores(self, stage: str) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            everyone: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(everyone, self.found)
            self.found = {name: one for part in everyone for name, one in part.items()}
        counts = self._counts()
        scores: dict[str, Any] = strategy_scores(counts) if counts.any() else {}
        replied = [one.answered for one in self.found.values() if one.reply is not None]
        if replied:
            draws = DRAWS if stage == "test" else 0
            said = reply_scores(replied, labels=self.labels, draws=draws)
            scores |= {name: v for name, v in said.items() if TEXT.match(name)}
        for name, value in scores.items():
            self.log(f"{stage}/{name}", float(value), prog_bar=name == "accuracy")
        best = [max(one.plan.values) for one in self.found.values()]
        self.log(f"{stage}/planned_value", sum(best) / len(best))

    def _counts(self) -> Any:
        plans = [(one.decision.target.strategy, one.plan.strategy) for one in self.found.values()]
        pairs = [(gold, planned) for gold, planned in plans if gold]  # data may lack strategies
        return count_pairs([g for g, _ in pairs], [p for _, p in pairs], self.labels.names)

    def figures(self) -> dict[str, Any]:
        """Return the strategies' confusion and transitions, and the values of some states."""
        if not self.found:
            return {}
        found = list(self.found.values())
        every = max(1, len(found) // NUM_SHOWN)
        shown = [
            (one.decision.query or one.decision.id, one.plan.values, one.decision.target.strategy)
            for one in found[::every][:NUM_SHOWN]
        ]
        drawn = reply_figures([one.answered for one in found], self.labels, EMOTION_SETS["esconv"])
        return drawn | {"values": value_bars(shown, self.labels.names)}

    def show(
        self, records: Sequence[Any], *, prompt: str | None = None, thought: str | None = None
    ) -> list[dict[str, str]]:
        """Return the state, all values, the chosen strategy and the reply for each record.

        Args:
            records: Dialogues; the current decision of each is planned.
            prompt: Plan for a seeker who says this instead.
            thought: Name of a strategy to follow instead of the planned one.

        Raises:
            InputError: `thought` is no strategy.
        """
        decisions = [
            current_decision(r, self.labels)
            for r in ([opened_by_seeker(prompt)] if prompt else records)
        ]
        plans = self.plan(decisions)
        if thought is not None:
            name = self.labels.canonical(thought, "thought")
            plans = [Plan(name, plan.values) for plan in plans]
        replies: list[str | None] = [None] * len(plans)
        if self.responder:
            replies = [*self.reply(decisions, plans)]
        rows = zip(decisions, plans, replies, strict=True)
        return [self._sample(decision, plan, reply) for decision, plan, reply in rows]

    def converse(self, dialogue: Dialogue) -> tuple[dict[str, str], Dialogue]:
        """Return strategy and values beside a reply, and the dialogue with the reply.

        Raises:
            InputError: There is no responder.
        """
        state = current_decision(dialogue, self.labels)
        (plan,) = self.plan([state])
        (reply,) = self.reply([state], [plan])
        sample = self._sample(state, plan, None)
        turn = Turn(SUPPORTER, reply, strategy=plan.strategy)
        notes = {name: sample[name] for name in ("strategy", "Q")}
        return notes, replace(dialogue, turns=(*dialogue.turns, turn))
