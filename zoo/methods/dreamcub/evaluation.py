"""Evaluation: what is believed, what is replied, and the whole world model at one decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from zoo.adapters import using
from zoo.evaluation import Pair
from zoo.methods.dreamcub.belief import Belief, belief_line, factors_of
from zoo.methods.dreamcub.encoder import BeliefStateEncoder, State, heard
from zoo.methods.dreamcub.imagination import planned
from zoo.methods.dreamcub.metrics import BeliefScores, confusion
from zoo.methods.dreamcub.roles import POLICY
from zoo.module import evaluating
from zoo.plots import heat_map
from zoo.records import Dialogue, Turn
from zoo.support.decisions import Decision, current_decision
from zoo.support.evaluation import TalkingModule
from zoo.support.labels import EMOTION_SETS, LABELS
from zoo.support.reply import SupportReply
from zoo.support.scores import ReplyScores

if TYPE_CHECKING:
    from zoo.methods.dreamcub.actor_critic import ActorCritic
    from zoo.methods.dreamcub.world_model import WorldModel

BELIEF = "belief"  # name of the step that shows it


@dataclass(frozen=True, slots=True)
class Foresight:
    """What the world model says of a decision and a reply.

    Attributes:
        belief: b_t, the label of each factor.
        reward: r_t of the reply.
        next_belief: b_{t+1} before anything is heard.
        utterance: o_{t+1}.
    """

    belief: Belief
    reward: float
    next_belief: Belief
    utterance: str


class BeliefModule(TalkingModule):
    """A module that infers a belief before it replies.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        labels: Which strategies or acts, a key of `LABELS`.
        factors: Names of what a belief consists of.
        dataset: Whose emotions.
        max_generated: Decisions to answer in each validation or test; None for all.
    """

    world: WorldModel
    actor: ActorCritic
    max_new_tokens: int
    candidates: int
    belief_in: frozenset[str]

    def __init__(
        self,
        backbone: Any,
        optimizer: Any,
        *,
        labels: str,
        factors: Sequence[str],
        dataset: str,
        max_generated: int | None,
    ) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.labels, self.dataset = LABELS[labels], dataset
        self.factors = factors_of(factors, dataset)
        self.emotions = EMOTION_SETS[dataset]
        self.metrics["replies"] = ReplyScores(self.labels)
        self.metrics["beliefs"] = BeliefScores(self.factors)

    def write(self, prompts: Sequence[list[int]], temperature: float) -> list[list[int]]:
        """Return what the active adapter writes, with the token that ends it where one does."""
        return self.written(prompts, temperature)[0]

    @evaluating
    def written(
        self, prompts: Sequence[list[int]], temperature: float
    ) -> tuple[list[list[int]], Tensor]:
        """Return what `write` does, and the states that its tokens were chosen from, `(T, D)`.

        They are the residual stream before the final norm, row after row.
        """
        decoder, stop = self.new_decoder(len(prompts)), self.encoder().stop_id
        decoder.open(prompts)
        states: list[Tensor] = []

        def project(states_BD: Tensor) -> Tensor:
            states.append(states_BD)
            return self.last_logits(states_BD)

        rows = decoder.decode(
            0,
            project,
            stop_id=stop,
            max_new_tokens=self.max_new_tokens,
            temperature=temperature,
            close=False,
        )
        rows = [row if len(row) == self.max_new_tokens else [*row, stop] for row in rows]
        pairs = zip(torch.stack(states, 1), rows, strict=True)  # all rows begin together
        return rows, torch.cat([kept_TD[: len(row)] for kept_TD, row in pairs])

    @evaluating
    def respond(self, records: Sequence[Dialogue | Decision], **options: Any) -> list[SupportReply]:
        """Return the belief and the reply at the current decision of each record.

        Args:
            records: Dialogues or decisions.
            options: Not used.
        """
        encoder = cast(BeliefStateEncoder, self.encoder())
        states = [State(current_decision(record, self.labels)) for record in records]
        states = self.world.infer(states)
        if self.candidates > 1:
            rows = planned(cast(Any, self), states, self.candidates)
        else:
            with using(self.lm, POLICY):
                rows = self.write([self.actor.prompt(state) for state in states], self.temperature)
        texts = [self.tokenizer.decode(row, skip_special_tokens=True) for row in rows]
        return [
            self._reply(state, encoder.read_reply(text), text)
            for state, text in zip(states, texts, strict=True)
        ]

    @evaluating
    def foresee(self, decision: Decision, reply: Turn) -> Foresight:
        """Return all that the world model says: belief, reward, and what the user says next."""
        (state,) = self.world.infer([State(decision)])
        reward = self.world.rewards([state], [reply])
        (belief,), (words,) = self.world.foresee([heard(state, reply)], None, 0.0)
        return Foresight(state.belief or (), float(reward[0]), belief, words)

    def _reply(self, state: State, turn: Turn, text: str) -> SupportReply:
        names = [factor.name for factor in self.factors]
        known = dict(zip(names, state.belief or (), strict=True))
        line = belief_line(self.factors, state.belief)
        return SupportReply(
            reply=turn.text,
            strategy=turn.strategy,
            emotion=known.get("emotion", ""),
            steps=((BELIEF, line),),
            words=text,
            calls=2,
        )

    # -- evaluation ----------------------------------------------------------------------------

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Add replies and beliefs to their scores."""
        super().update_metrics(pairs, ids)
        encoder = self.encoder()
        gold = [encoder.annotated(decision) for decision, _ in pairs]
        cast(BeliefScores, self.metrics["beliefs"]).update(
            gold, [self._found(answer) for _, answer in pairs], ids
        )

    def figures(self) -> dict[str, Any]:
        """Return those of replies, and the confusion of each factor."""
        shown = super().figures()
        pairs = [(self.encoder().annotated(d), self._found(a)) for d, a in self.answers.values()]
        for i, factor in enumerate(self.factors):
            known = [(gold[i], found[i]) for gold, found in pairs if gold[i]]
            if known:
                counts = confusion(factor, known)
                title = f"{factor.name}: annotated (row), inferred (column)"
                shown[f"belief_{factor.name}"] = heat_map(
                    counts, factor.labels, factor.labels, title, "decisions", digits=0
                )
        return shown

    def _found(self, answer: SupportReply) -> Belief:
        parts = dict(part.split("=") for part in dict(answer.steps)[BELIEF].split("; "))
        return tuple(parts[factor.name] for factor in self.factors)
