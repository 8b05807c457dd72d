"""The record of one reply: what a method chose and wrote at one decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from zoo.support.decisions import Decision


@dataclass(frozen=True, slots=True)
class SupportReply:
    """What a method chose and wrote at one decision.

    Attributes:
        reply: The supporter's next utterance.
        strategy: Name of the chosen strategy; empty for methods that choose none.
        emotion: Name of the recognised emotion; empty for methods that recognise none.
        steps: (name, text) of every other step, in order, for samples and chat.
        words: The model's whole output where it was asked for the reply.
        concepts: Tags inside the reply, in order.
        failed: Kinds of labels (`strategy`, `emotion`, ...) that could not be read from the output,
            so that the fallback label is used; `reply` if the output holds no reply.
        calls: Number of questions to the language model.
        nll: Negative log-likelihood in nats of the annotated reply, in place of this one.
        tokens: Tokens of the annotated reply; 0 if its likelihood was not computed.
    """

    reply: str
    strategy: str = ""
    emotion: str = ""
    steps: tuple[tuple[str, str], ...] = ()
    words: str = ""
    concepts: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    calls: int = 1
    nll: float = 0.0
    tokens: int = 0


class AnsweredDecision(NamedTuple):
    """A decision, the method's answer, and the annotated emotion; empty if there is none."""

    decision: Decision
    answer: SupportReply
    gold_emotion: str
