"""Encoders of subtitle blocks: a numbered response to learn, or a tree of candidates to compare.

    SFT          prompt, numbered lines                          a block is one sequence
    preference   prompt, lines before the core, and for each     a block is one tree
                 segment its candidates, two of which are a pair

Every line is tokenised alone, so a candidate's tokens are the same in every prefix.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from zoo.encoding import NO_HEAD, Example, Segment, join, unlearned
from zoo.errors import TooLongError
from zoo.methods.alpo.choose import (
    Choice,
    PairRule,
    choose,
    choose_every_segment,
    whole_outcomes,
)
from zoo.methods.alpo.preference_tree import BlockPlan, PreferenceBatch, collate_plans
from zoo.methods.alpo.prompts import instruction, written
from zoo.prompts.base import PromptEncoder
from zoo.records import ScoredBlock, SubtitleBlock

TRANSLATION = 0  # the head that learns a response

Objective = Literal["sft", "alpo", "segment_dpo", "outcome_dpo"]


@dataclass
class TranslationEncoder(PromptEncoder):
    """What both encoders share: a block's prompt and the lines of a response."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.end_ids = self.ids(self.chat.close("assistant"))

    def prompt(self, record: SubtitleBlock) -> list[int]:
        """Return the token ids up to the first numbered line of the response.

        Raises:
            TooLongError: They fill the window.
        """
        turn = self.chat.turn("user", instruction(record), first=True)
        ids = self.segment_ids([*turn, Segment(self.chat.open("assistant"), "header")])
        return self.check_prompt(ids, record)

    def response(self, lines: Sequence[str], first: int, total: int) -> list[int]:
        """Return the token ids of lines of a response; with its last line, the end of the turn.

        Args:
            lines: Translated lines that follow each other.
            first: Number of the first one, from 1.
            total: Lines of the whole response.
        """
        ids = [token for text in written(lines, first, total) for token in self.ids(text)]
        return ids + self.end_ids * (first + len(lines) - 1 == total)


@dataclass
class BlockEncoder(TranslationEncoder):
    """Encoder of blocks for SFT and for translating: the response alone is learned."""

    records: ClassVar[tuple[type, ...]] = (SubtitleBlock,)

    def __call__(self, record: SubtitleBlock) -> list[Example]:
        """Return the block with its translation; without one, the prompt, to be answered.

        Raises:
            TooLongError: It does not fit the window.
        """
        prompt, lines = self.prompt(record), record.translation
        if lines is None:
            return [unlearned(prompt, record)]
        response = self.response(lines, 1, len(lines))
        if len(prompt) + len(response) > self.max_length:
            raise too_long(record, len(prompt) + len(response), self.max_length)
        pieces = [(prompt, NO_HEAD, 0.0), (response, TRANSLATION, 1.0)]
        return [join(pieces, record=record)]


@dataclass
class PreferenceEncoder(TranslationEncoder):
    """Encoder of blocks whose segments have scored candidates.

    Attributes:
        objective: `alpo`, `segment_dpo` or `outcome_dpo`.
        rule: When a segment is learned from, and how much its pair counts (ALPO).
        beta: The constant beta of the baselines, 1 / nats.
        seed: Of what is drawn once per block.
    """

    records: ClassVar[tuple[type, ...]] = (ScoredBlock,)

    objective: Objective = field(default="alpo", kw_only=True)
    rule: PairRule = field(default_factory=PairRule, kw_only=True)
    beta: float = field(default=0.1, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __call__(self, record: ScoredBlock) -> list[Any]:
        """Return the plan of a block.

        Raises:
            TooLongError: Its longest candidates together do not fit the window.
        """
        block = record.block
        before = self.response(block.target_before, 1, len(block.lines))
        prompt = [*self.prompt(block), *before]
        candidates, choices = self._segments(record)
        longest = len(prompt) + sum(max(map(len, segment)) for segment in candidates)
        if longest > self.max_length:
            raise too_long(block, longest, self.max_length)
        blocks = float(any(choice.is_open for choice in choices))
        if self.objective == "segment_dpo" or not self.rule.weighted:  # a mean over pairs
            blocks = float(sum(choice.is_open for choice in choices))
        return [BlockPlan(tuple(prompt), candidates, choices, blocks, block.index, record)]

    def _segments(self, record: ScoredBlock) -> tuple[Any, tuple[Choice, ...]]:
        """Return the token ids of the candidates of each segment, and what is learned of it."""
        block = record.block
        first, total = len(block.before) + 1, len(block.lines)
        ids = tuple(
            tuple(tuple(self.response(lines, first + start, total)) for lines in segment.candidates)
            for (start, _), segment in zip(block.spans, record.segments, strict=True)
        )
        if self.objective == "alpo":
            return ids, choose(record, self.seed, self.rule)
        if self.objective == "segment_dpo":
            return ids, choose_every_segment(record, self.seed, self.beta)
        outcomes = whole_outcomes(record, self.seed)
        sides = [
            tuple(token for segment, pair in zip(ids, outcomes, strict=True)
                  for token in segment[pair[side]])
            for side in (0, 1)
        ]  # fmt: skip
        differ = sides[0] != sides[1]
        return (tuple(sides),), (Choice(0, 1, float(differ), self.beta * differ, differ),)

    def collate(self, plans: Sequence[BlockPlan], normalizers: dict[int, float]) -> PreferenceBatch:
        """Join blocks into a batch of trees whose prefixes are carried on by the chosen ones."""
        return collate_plans(plans, 1.0, None, normalizers, pad_id=self.tokenizer.pad_token_id)

    def regrow(self, batch: PreferenceBatch, lam: float, step: int) -> PreferenceBatch:
        """Return a batch with prefixes drawn anew, by the seed, each block's index and the step.

        Args:
            batch: Blocks.
            lam: Probability that the chosen candidate carries a prefix on.
            step: Optimiser steps done.
        """
        draws = [random.Random(f"{self.seed} {plan.index} {step}") for plan in batch.plans]
        pad_id = self.tokenizer.pad_token_id
        return collate_plans(batch.plans, lam, draws, batch.normalizers, pad_id=pad_id)

    def preview(self, example: Any) -> list[str]:
        """Return lines that show a block and its first chosen candidate in colour."""
        pairs = example.pair_examples() or [unlearned(example.prompt, example.record)]
        return super().preview(pairs[0])


def too_long(block: SubtitleBlock, tokens: int, limit: int) -> TooLongError:
    """Return the error of a block that does not fit the window."""
    return TooLongError(
        f"{block.id or 'block'}: {tokens} tokens, longer than the window max_length={limit}; raise "
        f"max_length or make smaller blocks"
    )
