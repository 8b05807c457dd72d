"""What FiSMiness' walk works on: models, conversations, and the answers to their turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.methods.fisminess.encoder import WalkEncoder
from zoo.methods.fisminess.machine import EMOTION, STRATEGY, Machine, Round, opening
from zoo.records import SUPPORTER
from zoo.support.decisions import Decision
from zoo.support.reply import SupportReply

StateKey = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ActionModel:
    """A language model that decides actions, and the encoder with its tokenizer."""

    lm: Any
    encoder: WalkEncoder


@dataclass
class Conversation:
    """A dialogue with the decisions that are asked for along it.

    Attributes:
        last: The decision with the most turns before it.
        rounds: The turns of the dialogue up to that decision.
        asked: Number of a turn -> indices of the decisions to answer there.
        machine: The current state.
    """

    last: Decision
    rounds: list[Round]
    asked: dict[int, list[int]] = field(default_factory=dict)
    machine: Machine = field(default_factory=Machine)

    def key(self, k: int) -> StateKey:
        """Return all that state s0 of turn k holds but the decoded labels."""
        past = tuple((turn.message, turn.strategy, turn.reply) for turn in self.rounds[:k])
        known = self.last.dialogue, self.last.problem, self.last.situation, opening(self.last)
        return *known, past, self.rounds[k].message


def group(
    decisions: Sequence[Decision], encoder: WalkEncoder, *, apart: bool = False
) -> list[Conversation]:
    """Return the conversations of some decisions; decisions of one dialogue share one.

    Args:
        decisions: What is asked for.
        encoder: Reads the turns, once for each conversation.
        apart: A conversation for each decision.
    """
    conversations: list[Conversation] = []
    for index in sorted(range(len(decisions)), key=lambda i: -len(decisions[i].turns)):
        decision = decisions[index]
        shared = (c for c in conversations if not apart and passes(c.last, decision))
        conversation = next(shared, None)
        if conversation is None:
            conversation = Conversation(decision, encoder.rounds(decision))
            conversations.append(conversation)
        conversation.asked.setdefault(decision.depth, []).append(index)
    return conversations


def passes(later: Decision, decision: Decision) -> bool:
    """Return whether a dialogue holds a decision, followed by the same reply if it has one."""
    length = len(decision.turns)
    known = (decision.dialogue, decision.situation, decision.problem)
    if known != (later.dialogue, later.situation, later.problem):
        return False
    following = (*later.turns, later.target)[length]
    replied = following.speaker == SUPPORTER and decision.target.text in ("", following.text)
    return replied and later.turns[:length] == decision.turns


@dataclass
class TurnAnswer:
    """What is decided in one turn of a conversation.

    Attributes:
        labels: `emotion` and `strategy` -> name; empty before it is known.
        asked: Whether the turn is to be answered with a reply.
        forced: Strategy to use instead of the model's choice; empty for none.
        gold: The annotated reply.
        reply: The model's reply.
        words: The model's whole output where it was asked for the reply.
        failed: What could not be read of the model's outputs: `emotion`, `strategy`, `reply`.
        nll: Negative log-likelihood of the annotated reply, in nats.
        tokens: Tokens of the annotated reply.
    """

    labels: dict[str, str]
    asked: bool = False
    forced: str = ""
    gold: str = ""
    reply: str = ""
    words: str = ""
    failed: list[str] = field(default_factory=list)
    nll: float = 0.0
    tokens: int = 0

    @property
    def is_known(self) -> bool:
        """Whether the model has to be asked nothing in this turn."""
        return not self.asked and all(self.labels.values())

    def as_reply(self, calls: int) -> SupportReply:
        """Return the answer as the record of a reply, with the walk as a step to show."""
        emotion, strategy = self.labels[EMOTION], self.labels[STRATEGY]
        walk = f"s0 -{emotion}-> s1 -{strategy}-> s2 -reply-> s3"
        return SupportReply(
            self.reply,
            strategy,
            emotion,
            steps=(("walk", walk),),
            words=self.words,
            failed=tuple(self.failed),
            calls=calls,
            nll=self.nll,
            tokens=self.tokens,
        )
