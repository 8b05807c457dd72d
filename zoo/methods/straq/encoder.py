"""Dialogues -> transitions between decisions -> batches, for methods that learn values.

A transition is one decision of a dialogue: the prompt of its state, the judged strategies with
their rewards, and the prompt of the next decision's state. Strategies that are judged in one state
share its pass and its next state. No token is a label: a loss reads the last position of a prompt.

Shapes: S states, N judged strategies of all of them, K strategies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from zoo.encoding import NO_HEAD, Batch, Example, sum_head_weights, unlearned
from zoo.errors import InputError, TooLongError
from zoo.methods.straq.prompts import LEAD, PLAN_SYSTEM, letters, line, opening, question
from zoo.methods.straq.rewards import Judged, Reward
from zoo.prompts.base import PromptEncoder
from zoo.prompts.option_tokens import option_ids
from zoo.records import Dialogue
from zoo.support.decisions import Decision, decisions
from zoo.support.encoder import has_strategies, require_strategies
from zoo.support.labels import Labels

log = logging.getLogger(__name__)

VALUES = 0  # the one kind of supervision, as a "head" of the loader's normalisers


@dataclass(frozen=True, slots=True)
class Transition:
    """A state, what is judged in it, and what follows.

    Attributes:
        ids: Token ids of the state's prompt.
        next_ids: Those of the next state; one token of no meaning if nothing follows.
        judged: The strategies with their rewards.
        ends: For each of them, whether nothing follows.
        record: The decision.
    """

    ids: list[int]
    next_ids: list[int]
    judged: tuple[Judged, ...]
    ends: tuple[bool, ...]
    record: Decision

    def __len__(self) -> int:
        """Return the number of tokens of both prompts."""
        return len(self.ids) + len(self.next_ids)

    def head_weights(self) -> dict[int, float]:
        """Return the number of judged strategies; nothing if there is none to learn from."""
        return {VALUES: float(len(self.judged))} if self.judged else {}


@dataclass(slots=True)
class TransitionBatch:
    """States, next states and judged strategies of several transitions.

    Attributes:
        now: Prompts of the S states.
        after: Prompts of the S next states.
        state: State of each judged strategy, `(N,)`.
        action: Its index, `(N,)`.
        reward: r, `(N,)`.
        done: Nothing follows, `(N,)`.
        normalizers: See `zoo.encoding.Batch`.
        records: The S decisions.
    """

    now: Batch
    after: Batch
    state: Tensor
    action: Tensor
    reward: Tensor
    done: Tensor
    normalizers: dict[int, float] = field(default_factory=dict)
    records: list[Decision] = field(default_factory=list)

    def to(self, device: torch.device | str, **kwargs: Any) -> TransitionBatch:
        """Return a copy whose tensors are on `device` (Lightning calls this)."""
        return self._map(lambda part: part.to(device, **kwargs))

    def pin_memory(self) -> TransitionBatch:
        """Return a copy in page-locked memory (the data loader calls this)."""
        return self._map(lambda part: part.pin_memory())

    def counts(self) -> dict[str, int]:
        """Return the amounts of work that throughput is reported in."""
        return {"tokens": self.num_tokens, "transitions": len(self.state)}

    @property
    def num_tokens(self) -> int:
        """Number of real tokens of both prompts."""
        return self.now.num_tokens + self.after.num_tokens

    def _map(self, change: Callable[[Any], Any]) -> TransitionBatch:
        parts = ("now", "after", "state", "action", "reward", "done")
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in parts}
        return TransitionBatch(**changed, normalizers=self.normalizers, records=self.records)


@dataclass
class TransitionEncoder(PromptEncoder):
    """Encoder of dialogues as transitions between decisions.

    Attributes:
        labels: The strategies.
        reward: Gives the judged strategies of a decision; none where there is nothing to learn.
        reuse_next: A strategy that was not used is followed by the logged next state; else by
            nothing.
        max_length: Window of a prompt in tokens; the oldest turns are left out.
    """

    records: ClassVar[tuple[type, ...]] = (Dialogue,)

    labels: Labels
    reward: Reward
    reuse_next: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.studied: dict[Decision, tuple[Judged, ...]] = {}
        tail = self.chat.close("user") + self.chat.open("assistant") + LEAD
        self.tail_ids = self.ids(question(self.labels) + tail)
        names = letters(self.labels)
        try:  # most tokenizers hold the blank in the letter's token
            self.letter_ids = option_ids(self.tokenizer, [f" {name}" for name in names], tail)
        except InputError:
            self.letter_ids = option_ids(self.tokenizer, names, tail, key="model.backbone.name")

    def study(self, records: Sequence[Dialogue], split: str) -> None:
        """Reward the decisions of a split, and say which rewards are missing.

        Dialogues without strategies are planned, never learned from.

        Raises:
            InputError: A training dialogue has no strategies, or no training decision a reward.
        """
        for record in records if split == "train" else ():
            require_strategies(record, self.labels)
        rewarded = split in self.reward.splits
        self.studied = {
            decision: self._judged(decision) if rewarded else ()
            for record in records
            for decision in self._decisions(record)
        }
        missing = self.reward.report()
        if split == "train" and not any(self.studied.values()):
            raise InputError(
                f"model.reward: nothing to learn; {missing or 'no decision is graded'}"
            )
        if missing:
            log.warning("rewards of %s: %s", split, missing)

    def __call__(self, record: Dialogue) -> list[Transition]:
        """Return a transition for every decision of a dialogue, in order.

        Raises:
            InputError: Some strategies are missing or one is unknown, no supporter turn answers
                anything, or a prompt does not fit the window without any turn but the last.
        """
        points = self._decisions(record)
        lines = [self.ids(line(turn)) for turn in points[-1].turns]
        states = [self.state(decision, lines) for decision in points]
        return [
            self._transition(decision, ids, following)
            for decision, ids, following in zip(points, states, [*states[1:], None], strict=True)
        ]

    def state(self, decision: Decision, lines: Sequence[Sequence[int]] | None = None) -> list[int]:
        """Return the token ids of a state's prompt, up to where the letter is read.

        Args:
            decision: The state.
            lines: Token ids of the dialogue's turns, as lines, if they are known.

        Raises:
            InputError: It does not fit the window.
        """
        user = self.chat.open("user") + opening(decision)
        start = self.ids(self.system_turn(PLAN_SYSTEM) + user)
        if lines is None:
            lines = [self.ids(line(turn)) for turn in decision.turns]
        kept = list(lines[: len(decision.turns)])
        while sum(map(len, kept)) + len(start) + len(self.tail_ids) > self.max_length:
            kept = kept[1:]
            if not kept:
                raise TooLongError(
                    f"{decision.id}: does not fit into the window max_length={self.max_length}"
                )
        self._shortened += len(kept) < len(decision.turns)
        return [*start, *(token for ids in kept for token in ids), *self.tail_ids]

    def prompts(self, rows: Sequence[Sequence[int]]) -> Batch:
        """Return prompts as a batch without labels."""
        return super().collate([unlearned(row) for row in rows], {})

    def collate(  # type: ignore[override]
        self, examples: Sequence[Transition], normalizers: dict[int, float]
    ) -> TransitionBatch:
        """Join transitions into a batch."""
        judged = [
            (i, *act, end)
            for i, example in enumerate(examples)
            for act, end in zip(example.judged, example.ends, strict=True)
        ]
        return TransitionBatch(
            now=self.prompts([example.ids for example in examples]),
            after=self.prompts([example.next_ids for example in examples]),
            state=torch.tensor([row[0] for row in judged], dtype=torch.long),
            action=torch.tensor([row[1] for row in judged], dtype=torch.long),
            reward=torch.tensor([row[2] for row in judged], dtype=torch.float32),
            done=torch.tensor([row[4] for row in judged], dtype=torch.bool),
            normalizers=normalizers or sum_head_weights(examples),
            records=[example.record for example in examples],
        )

    def preview(self, example: Transition) -> list[str]:
        """Return lines that show a state's prompt, the letter read there, and the rewards."""
        rewards = ", ".join(
            f"{self.labels.names[act.action]} {act.reward:+g}{' (logged)' if act.logged else ''}"
            for act in example.judged
        )
        name = example.record.target.strategy  # of data without strategies the first letter
        logged = self.labels.names.index(name) if name else 0
        shown = [*example.ids, self.letter_ids[logged]]
        heads = [NO_HEAD] * (len(example.ids) - 1) + [VALUES, NO_HEAD]
        colours = Example(shown, shown, heads, [0.0] * len(shown))
        follows = "nothing" if all(example.ends) else f"a prompt of {len(example.next_ids)} tokens"
        text = f"{rewards}; then {follows}" if rewards else "none"
        return [*super().preview(colours), f"rewards     {text}"]

    def _transition(
        self, decision: Decision, ids: list[int], following: list[int] | None
    ) -> Transition:
        known = self.studied.get(decision)
        judged = self._judged(decision) if known is None else known
        ends = tuple(following is None or not (act.logged or self.reuse_next) for act in judged)
        # Every state has a next prompt, so that all processes run the same passes.
        return Transition(ids, ids[:1] if following is None else following, judged, ends, decision)

    def _decisions(self, record: Dialogue) -> list[Decision]:
        return decisions(record, self.labels, need_strategies=has_strategies(record))

    def _judged(self, decision: Decision) -> tuple[Judged, ...]:
        """Return the judged strategies; none in data without strategies."""
        return tuple(self.reward(decision)) if decision.target.strategy else ()
