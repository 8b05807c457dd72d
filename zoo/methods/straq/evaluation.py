"""Evaluation of methods that plan support strategies by values: plans, replies, figures, chat."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo.evaluation import EvaluatedModule, Pair
from zoo.losses.cross_entropy import Term
from zoo.methods.straq.encoder import TransitionBatch, TransitionEncoder
from zoo.methods.straq.plots import value_bars
from zoo.metrics.records import RecordMean
from zoo.module import evaluating
from zoo.records import SUPPORTER, Dialogue, Turn, opened_by_seeker
from zoo.support.decisions import Decision, current_decision
from zoo.support.evaluation import DRAWS, state_text
from zoo.support.labels import EMOTION_SETS, LABELS
from zoo.support.reply import AnsweredDecision, SupportReply
from zoo.support.scores import ReplyScores, reply_figures
from zoo.support.strategy_metrics import StrategyScores

NUM_SHOWN = 6  # states with their values in a figure
TEXT = re.compile(
    r"((early|late)/)?(bleu|rouge|meteor|cider|distinct|length|answers|reply_failed)"
)  # scores

Respond = Callable[[Sequence[Decision], Sequence[str], torch.device], list[str]]


@dataclass(frozen=True, slots=True)
class StrategyPlan:
    """What is planned at a decision.

    Attributes:
        strategy: The strategy to use.
        values: The values of all strategies in canonical order.
        reply: The responder's reply by the strategy; None if it was not asked.
    """

    strategy: str
    values: tuple[float, ...]
    reply: str | None = None


class PlanReplyScores(ReplyScores):
    """Scores of the texts alone: the plans have scores of their own."""

    def compute(self) -> dict[str, float]:
        """Return the scores by name; nothing without replies."""
        return {name: value for name, value in super().compute().items() if TEXT.match(name)}


class PlanningModule(EvaluatedModule):
    """A module whose `forward(prompts)` gives values `(S, K)`; it adds `losses_and_values(batch)`.

    In validation and test every state is planned; `max_generated` limits the replies.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        labels: Which strategies or acts, a key of `LABELS`.
        max_generated: Replies to write in each validation or test; None for all.
    """

    reply_setting: ClassVar[str | None] = "max_new_tokens"
    responder: Respond | None = None

    def __init__(
        self, backbone: Any, optimizer: Any, *, labels: str, max_generated: int | None
    ) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.labels = LABELS[labels]
        self.metrics["plans"] = StrategyScores(self.labels)
        self.metrics["replies"] = PlanReplyScores(self.labels)
        self.metrics["planned_value"] = RecordMean()

    def losses_and_values(self, batch: TransitionBatch) -> tuple[dict[str, Term], Tensor]:
        """Return the loss terms of a batch, and the values of its states, `(S, K)`."""
        raise TypeError(f"{type(self).__name__} does not implement losses_and_values(batch)")

    def losses(self, batch: TransitionBatch) -> dict[str, Term]:
        """Return the loss terms of a batch."""
        return self.losses_and_values(batch)[0]

    @evaluating
    def plan(self, records: Sequence[Dialogue | Decision]) -> list[StrategyPlan]:
        """Return the best strategy for the current state of each record, with all values.

        Args:
            records: Decisions, or dialogues that are to be continued.
        """
        encoder: TransitionEncoder = self.encoder()
        states = [current_decision(record, self.labels) for record in records]
        batch = encoder.prompts([encoder.state(state) for state in states]).to(self.device)
        return self.plans(self(batch))

    def reply(
        self, records: Sequence[Dialogue | Decision], plans: Sequence[StrategyPlan] | None = None
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

    def plans(self, values_SK: Tensor) -> list[StrategyPlan]:
        """Return the strategy with the highest value of each state, the first of equal ones."""
        rows = values_SK.float().tolist()
        best = [max(range(len(row)), key=row.__getitem__) for row in rows]
        pairs = zip(best, rows, strict=True)
        return [StrategyPlan(self.labels.names[i], tuple(row)) for i, row in pairs]

    # -- evaluation ----------------------------------------------------------------------------

    def answer(self, records: Sequence[Decision]) -> list[StrategyPlan]:
        """Return the plan of each decision, with a reply if there is a responder."""
        return self.with_replies(records, self.plan(records))

    def with_replies(
        self, records: Sequence[Decision], plans: Sequence[StrategyPlan]
    ) -> list[StrategyPlan]:
        """Return the plans with replies by them, if there is a responder."""
        if self.responder is None or not records:
            return list(plans)
        replies = self.reply(records, plans)
        return [replace(plan, reply=reply) for plan, reply in zip(plans, replies, strict=True)]

    def evaluate(self, batch: TransitionBatch, stage: str) -> dict[str, Any]:
        """Log the losses; keep the plan of every new state, with replies up to `max_generated`.

        The values come from the pass of the losses, so nothing is run again for the plans.
        """
        terms, values_SK = self.losses_and_values(batch)
        self.log_terms(stage, terms)
        plans = {d.id: p for d, p in zip(batch.records, self.plans(values_SK), strict=True)}
        new = self.new_records(batch)
        limit = self.max_generated
        shown = [*(new if limit is None else self.within(limit, new)).values()]
        replied = self.with_replies(shown, [plans[decision.id] for decision in shown])
        pairs = list(zip(shown, replied, strict=True))
        self.answered.append(list(new))
        self.answers |= {name: (decision, plans[name]) for name, decision in new.items()}
        self.answers |= {decision.id: (decision, plan) for decision, plan in pairs}
        self.update_metrics([self.answers[name] for name in new], list(new))
        return {"samples": [self.sample(*pair) for pair in pairs]}

    def prediction(self, record: Decision, answer: StrategyPlan) -> dict[str, Any]:
        """Return the plan of a decision, with the reply if there is one."""
        replies = {"reply": answer.reply, "gold_reply": record.target.text}
        return {
            "id": record.id,
            "strategy": answer.strategy,
            "values": dict(zip(self.labels.names, answer.values, strict=True)),
            "gold": record.target.strategy,
            **({} if answer.reply is None else replies),
        }

    def sample(self, record: Decision, answer: StrategyPlan) -> dict[str, str]:
        """Return the row that shows a decision: the state, all values, the plan and the reply."""
        gold = record.target
        ranked = sorted(
            zip(answer.values, self.labels.names, strict=True), key=lambda pair: -pair[0]
        )
        row = {
            "state": state_text(record),
            "Q": ", ".join(f"{name} {value:.2f}" for value, name in ranked),
            "strategy": answer.strategy + (f"   [gold: {gold.strategy}]" if gold.strategy else ""),
        }
        if answer.reply is not None:
            row["reply"] = answer.reply + (f"   [gold: {gold.text}]" if gold.text else "")
        return row

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Compare plans where the data has a strategy; score the replies that were written."""
        named = [(d, p.strategy) for d, p in pairs if d.target.strategy]
        replied = [pair for pair in pairs if pair[1].reply is not None]
        metrics = self.each_metric()
        metrics["plans"].update(
            [planned for _, planned in named],
            [decision.target.strategy for decision, _ in named],
            [decision.id for decision, _ in named],
        )
        metrics["replies"].update(answered_decisions(replied), [d.id for d, _ in replied])
        metrics["planned_value"].update([max(plan.values) for _, plan in pairs], ids)

    def prepare_metrics(self, stage: str) -> None:
        """Ask for intervals over dialogues in a test."""
        cast(ReplyScores, self.metrics["replies"]).draws = DRAWS[stage]

    def figures(self) -> dict[str, Any]:
        """Return the strategies' confusion and transitions, and the values of some states."""
        if not self.answers:
            return {}
        pairs = list(self.answers.values())
        shown = [
            (decision.query or decision.id, plan.values, decision.target.strategy)
            for decision, plan in pairs[:: max(1, len(pairs) // NUM_SHOWN)][:NUM_SHOWN]
        ]
        drawn = reply_figures(answered_decisions(pairs), self.labels, EMOTION_SETS["esconv"])
        return drawn | {"values": value_bars(shown, self.labels.names)}

    # -- verbs ---------------------------------------------------------------------------------

    def show(
        self, records: Sequence[Any], *, prompt: str | None = None, given: str | None = None
    ) -> list[dict[str, str]]:
        """Return the state, all values, the chosen strategy and the reply for each record.

        Args:
            records: Dialogues; the current decision of each is planned.
            prompt: Plan for a seeker who says this instead.
            given: Name of a strategy to follow instead of the planned one.

        Raises:
            InputError: `given` is no strategy.
        """
        asked = [opened_by_seeker(prompt)] if prompt else records
        decisions = [current_decision(record, self.labels) for record in asked]
        plans = self.plan(decisions)
        if given is not None:
            name = self.labels.canonical(given, "given")
            plans = [replace(plan, strategy=name) for plan in plans]
        pairs = zip(decisions, self.with_replies(decisions, plans), strict=True)
        return [self.sample(*pair) for pair in pairs]

    def converse(
        self, dialogue: Dialogue, *, temperature: float = 0.0
    ) -> tuple[dict[str, str], Dialogue]:
        """Return strategy and values beside a reply, and the dialogue with the reply.

        Args:
            dialogue: Ends with a seeker's turn.
            temperature: Of a second try: the strategy of the second highest value is followed.

        Raises:
            InputError: There is no responder.
        """
        state = current_decision(dialogue, self.labels)
        (plan,) = self.plan([state])
        if temperature:
            ranked = sorted(range(len(plan.values)), key=lambda i: -plan.values[i])  # as `plans`
            plan = replace(plan, strategy=self.labels.names[ranked[1]])
        (reply,) = self.reply([state], [plan])
        row = self.sample(state, plan)
        turn = Turn(SUPPORTER, reply, strategy=plan.strategy)
        notes = {name: row[name] for name in ("strategy", "Q")}
        return notes, replace(dialogue, turns=(*dialogue.turns, turn))


def answered_decisions(pairs: Iterable[Pair]) -> list[AnsweredDecision]:
    """Return decisions with their plans as the scores of all supporters take them."""
    return [
        AnsweredDecision(
            decision,
            SupportReply(plan.reply or "", plan.strategy, failed=() if plan.reply else ("reply",)),
            "",
        )
        for decision, plan in pairs
    ]
