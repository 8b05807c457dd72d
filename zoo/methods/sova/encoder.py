"""Prompts as token ids: the part that both orders share, the ends, the options; what is learned."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from zoo.encoding import Example, Segment, unlearned
from zoo.errors import InputError
from zoo.methods.sova import prompts, replies
from zoo.methods.sova.expected import expected_action
from zoo.methods.sova.retriever import query
from zoo.prompts.base import PromptEncoder
from zoo.records import NOT_TO_DO, TO_DO, Dialogue, Dilemma

SPEAK = 0


@dataclass
class DilemmaEncoder(PromptEncoder):
    """Encoder of dilemmas.

    Only the texts of the situations are kept of a split that is studied, never labels.

    Attributes:
        learns: `sft` learns the expected action, `steerlm` both actions, each under its grade,
            `retriever` which principles fit; None learns nothing.
        rule: Rule of expected actions that is learned.
        donors: Situation -> another one of the same split, for the control of shuffled
            instructions.
    """

    records: ClassVar[tuple[type, ...]] = (Dilemma, Dialogue)

    learns: str | None = None
    rule: str = "maslow_growth"
    donors: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        ids = [self.ids(option) for option in prompts.OPTIONS]
        shared = 0
        while all(len(row) > shared and row[shared] == ids[0][shared] for row in ids):
            shared += 1
        if any(len(row) != shared + 1 for row in ids):
            raise InputError(
                "model.backbone: the two options of this tokenizer differ in more than their last "
                "token, so their odds cannot be read from one state"
            )
        self.option_start, self.option_ids = ids[0][:shared], [row[shared] for row in ids]

    def study(self, records: Sequence[Dilemma | Dialogue], split: str) -> None:
        """Pair each situation with another one of the split, in the order of their hashes."""
        by_hash = sorted({asked_text(record) for record in records}, key=_digest)
        half = len(by_hash) // 2
        self.donors |= dict(zip(by_hash, [*by_hash[half:], *by_hash[:half]], strict=True))

    def donor(self, situation: str) -> str:
        """Return another situation of the same split.

        Raises:
            InputError: The situation is of no split that was studied, or alone in it.
        """
        other = self.donors.get(situation, situation)
        if other == situation:
            raise InputError(
                "model.kind: shuffled takes the instructions of other dilemmas, so it decides "
                "several dilemmas of a data module only"
            )
        return other

    def __call__(self, record: Dilemma | Dialogue) -> list[Example]:
        """Return an example for each action that is learned, or one to be answered only.

        Where nothing is expected there is nothing to learn, and in conversations there never is.
        """
        if isinstance(record, Dialogue):
            return [unlearned(replies.prompt(self, record, prompts.SYSTEM, "", 1), record)]
        expected = expected_action(record, self.rule) if self.learns else None
        if expected is None:
            ids = [*self.head(record.situation), *self.tail(prompts.ORDERS[0])]
            return [unlearned(self.check_prompt(ids, record), record)]
        if self.learns == "retriever":
            ids = self.check_prompt(self.ids(record.situation), record)
            return [query(ids, record, self.rule, SPEAK)]
        order = prompts.ORDERS[_digest(record.situation)[0] % 2]  # so that no position is learned
        if self.learns == "sft":
            return [self._learned(record, order, expected, "")]
        low, high = (prompts.graded(grade) for grade in prompts.GRADES)
        other = NOT_TO_DO if expected == TO_DO else TO_DO
        return [
            self._learned(record, order, expected, high),
            self._learned(record, order, other, low),
        ]

    def segments(
        self, situation: str, before: str = "", system: str = prompts.SYSTEM, after: str = ""
    ) -> list[Segment]:
        """Return the part of a prompt that does not depend on the order of the actions.

        Args:
            situation: The dilemma.
            before: What the user says before it, for example instructions.
            system: The system line.
            after: What the user asks for after it; empty where the actions follow at once.
        """
        told = before + prompts.question(situation, reasoned=bool(after)) + after
        return [
            Segment(self.system_turn(system), "system"),
            Segment(self.chat.open("user") + told, "user"),
        ]

    def head(self, situation: str, **parts: str) -> list[int]:
        """Return the token ids of `segments`."""
        return self.segment_ids(self.segments(situation, **parts))

    def tail(self, order: Sequence[str], *, reasoned: bool = False) -> list[int]:
        """Return what follows `head`: the actions, the end of the turn, the answer's header."""
        asked = prompts.choices(order, reasoned=reasoned) + self.chat.close("user")
        return self.ids(asked) + self.ids(self.chat.open("assistant"))

    def reasoning_start(self) -> list[int]:
        """Return what follows a request for reasoning: the end of the turn, the header."""
        return self.ids(self.chat.close("user") + self.chat.open("assistant"))

    def reasoning_end(self) -> list[int]:
        """Return what stands between reasoning, which has ended, and the next question."""
        return self.ids(self.chat.open("user"))

    def room(self, max_reasoning_tokens: int | None) -> int:
        """Return how many tokens may follow `head`, before those of an option that is written.

        Args:
            max_reasoning_tokens: Limit of reasoning, which a second question follows; None for no
                reasoning.
        """
        reasoned = max_reasoning_tokens is not None
        asked = max(len(self.tail(order, reasoned=reasoned)) for order in prompts.ORDERS)
        if max_reasoning_tokens is None:
            return asked
        ends = len(self.reasoning_start()) + 1 + len(self.reasoning_end())  # 1: the end of a turn
        return ends + max_reasoning_tokens + asked

    def _learned(
        self, record: Dilemma, order: Sequence[str], action_type: str, before: str
    ) -> Example:
        option = prompts.OPTIONS[list(order).index(action_type)]
        asked = prompts.choices(order) + self.chat.close("user")
        answer = [
            Segment(asked, "user"),
            Segment(self.chat.open("assistant"), "header"),
            Segment(option + self.chat.close("assistant"), "assistant", SPEAK),
        ]
        return self.encode([*self.segments(record.situation, before), *answer], record)


def asked_text(record: Dilemma | Dialogue) -> str:
    """Return what instructions are retrieved for: a dilemma, or a conversation so far."""
    return replies.situation(record) if isinstance(record, Dialogue) else record.situation


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
