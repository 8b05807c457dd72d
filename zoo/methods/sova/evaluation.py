"""How choices in dilemmas are evaluated: answers, their scores, samples and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import mean
from typing import Any, ClassVar, cast

import torch

from zoo.evaluation import EvaluatedModule, Pair
from zoo.methods.sova.expected import RULES, expected_action
from zoo.methods.sova.instruction import Instruction
from zoo.methods.sova.metrics import Choice, ExpectedRatio, ReplyOverlap, ValuePreference
from zoo.methods.sova.prompts import ORDERS, listed, read_choice
from zoo.methods.sova.replies import ValueReply, gold, situation
from zoo.metrics.records import RecordMean
from zoo.plots import heat_map
from zoo.records import (
    NOT_TO_DO,
    SUPPORTER,
    TO_DO,
    Dialogue,
    Dilemma,
    Turn,
    awaiting_reply,
    unlabelled,
)

READINGS = ("", "swapped_", "text_", "text_swapped_")
"""How a choice is read: log-odds in the dataset's order of actions, in the other one; text."""


@dataclass(frozen=True, slots=True)
class DilemmaChoice:
    """What an agent does in a dilemma.

    Attributes:
        odds: Log-odds of `to do`, in nats, for both orders of the actions.
        texts: What was written as an answer, for both orders; None if text was not read.
        instructions: Those in the prompt, best first.
        reasoning: What was thought before the answer; may be empty.
        cut: Whether the reasoning reached its limit of tokens, so that its end is missing.
        principles: Texts in the prompt that plain retrieval pasted, the closest one first.
    """

    odds: tuple[float, float]
    texts: tuple[str, str] | None
    instructions: tuple[Instruction, ...] = ()
    reasoning: str = ""
    cut: bool = False
    principles: tuple[str, ...] = ()

    def choice(self, reading: str = "") -> Choice:
        """Return the choice by one of `READINGS`; None for text that is no answer or not read."""
        which = int("swapped" in reading)
        if reading.startswith("text"):
            return None if self.texts is None else read_choice(self.texts[which], ORDERS[which])
        return TO_DO if self.odds[which] > 0 else NOT_TO_DO

    def notes(self) -> dict[str, str]:
        """Return the parts by name, to be shown."""
        shown = {"instructions": listed(self.instructions)}
        if self.principles:
            shown["principles"] = "\n".join(self.principles)
        if self.reasoning:
            shown["reasoning"] = self.reasoning + " [cut at the limit]" * self.cut
        shown["choice"] = f"{self.choice()} (log-odds of to_do {self.odds[0]:+.2f})"
        shown["swapped"] = f"{self.choice('swapped_')} ({self.odds[1]:+.2f})"
        if self.texts is not None:
            shown["text"] = " | ".join(text.strip() or "(nothing)" for text in self.texts)
        return shown

    def plain(self) -> dict[str, Any]:
        """Return the choices by every reading and all parts, as plain values."""
        unread = self.texts is None
        read = [name for name in READINGS if not (unread and name.startswith("text"))]
        choices = {f"{name}choice": self.choice(name) for name in read}
        return {**choices, **asdict(self)}


Asked = Dilemma | Dialogue
Answer = DilemmaChoice | ValueReply


class ChoosingModule(EvaluatedModule):
    """A module that decides dilemmas, or replies in conversations.

    `generate` returns a `DilemmaChoice` for each dilemma, a `ValueReply` for each conversation.

    For every rule of expected actions and every reading of a choice an `ExpectedRatio` is kept,
    and the preferences for the dataset's labels by log-odds; for replies their overlap with the
    annotated ones. `mean_instructions` and `without_instructions` say how many a prompt held, and
    the share that held none; `written_instructions`, where a model maps, the share of instructions
    that it wrote, while the others are findings of reports; `cut_reasoning`, of a kind that
    reasons, the share of reasonings that reached their limit.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_generated: Dilemmas to decide in each validation or test; None for all.
    """

    headline: ClassVar[tuple[str, ...]] = tuple(f"expected_{rule}" for rule in RULES)
    reply_setting: ClassVar[str | None] = "max_reply_tokens"

    def __init__(self, backbone: Any, optimizer: Any, *, max_generated: int | None) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        for rule in RULES:
            for reading in READINGS:
                self.metrics[f"{reading}{rule}"] = ExpectedRatio(rule, reading)
        for theory in ("virtue", "maslow", "emotion"):
            self.metrics[f"preference_{theory}"] = ValuePreference(theory)
        self.metrics["replies"] = ReplyOverlap()
        self.metrics["mean_instructions"] = RecordMean()
        self.metrics["without_instructions"] = RecordMean()

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Add choices and replies to their scores; text that was not read counts nowhere.

        An empty text was read, and is an invalid answer.
        """
        named = [(*pair, name) for pair, name in zip(pairs, ids, strict=True)]
        chosen = [row for row in named if isinstance(row[0], Dilemma)]
        for name, metric in self.each_metric().items():
            if isinstance(metric, ExpectedRatio):
                text = metric.reading.startswith("text")
                read = [row for row in chosen if row[1].texts is not None or not text]
                choices = [answer.choice(metric.reading) for _, answer, _ in read]
                metric.update([d for d, _, _ in read], choices, [n for _, _, n in read])
            elif isinstance(metric, ValuePreference):
                choices = [answer.choice() for _, answer, _ in chosen]
                metric.update([d for d, _, _ in chosen], choices, [n for _, _, n in chosen])
            elif isinstance(metric, ReplyOverlap):
                said = [row for row in named if isinstance(row[0], Dialogue)]
                golds = [gold(record).text for record, _, _ in said]
                metric.update([a.text for _, a, _ in said], golds, [n for _, _, n in said])
            elif name == "cut_reasoning":
                thought = [row for row in chosen if row[1].reasoning]
                cut = [float(answer.cut) for _, answer, _ in thought]
                cast(RecordMean, metric).update(cut, [n for _, _, n in thought])
            elif name == "written_instructions":
                steered = [row for row in named if row[1].instructions]
                shares = [mean(i.written for i in row[1].instructions) for row in steered]
                cast(RecordMean, metric).update(shares, [n for _, _, n in steered])
            else:
                counts = [len(answer.instructions) for _, answer, _ in named]
                none = name == "without_instructions"
                values = [float(n == 0) if none else float(n) for n in counts]
                cast(RecordMean, metric).update(values, [n for _, _, n in named])

    def sample(self, record: Asked, answer: Answer) -> dict[str, str]:
        """Return the row that shows what was asked, the instructions and the answer."""
        if isinstance(record, Dialogue):
            return {"conversation": situation(record), **answer.notes(), "gold": gold(record).text}
        return {"dilemma": record.situation, **answer.notes()} | {
            f"expected by {rule}": expected_action(record, rule) or "-" for rule in RULES
        }

    def prediction(self, record: Asked, answer: Answer) -> dict[str, Any]:
        """Return the answer's parts as plain values."""
        return {"id": record.id, **answer.plain()}

    def figures(self) -> dict[str, Any]:
        """Return the ratio of expected actions by rule and label."""
        found = {}
        chosen = [pair for pair in self.answers.values() if isinstance(pair[0], Dilemma)]
        for rule in RULES if chosen else ():
            choices = [answer.choice() for _, answer in chosen]
            scores = ExpectedRatio(rule)([dilemma for dilemma, _ in chosen], choices)
            start = f"expected_{rule}/"
            labels = {n.removeprefix(start): v for n, v in scores.items() if n.startswith(start)}
            if labels:
                found[f"expected_{rule}_by_label"] = heat_map(
                    torch.tensor([[value] for value in labels.values()]),
                    list(labels),
                    ["ratio"],
                    f"Expected actions by {rule}, by label of the expected action",
                    "ratio",
                )
        return found

    def show(self, records: Sequence[Asked], *, prompt: str | None = None) -> list[dict[str, str]]:
        """Return what was asked, with the instructions and the answer.

        Args:
            records: Dilemmas or conversations.
            prompt: Decide this dilemma instead.
        """
        if prompt is None:
            answers = self.generate(records)
            return [self.sample(*pair) for pair in zip(records, answers, strict=True)]
        (answer,) = self.generate([unlabelled(prompt)])
        return [{"dilemma": prompt, **answer.notes()}]

    def converse(
        self, dialogue: Dialogue, *, temperature: float = 0.0
    ) -> tuple[dict[str, str], Dialogue]:
        """Return the instructions beside a reply, and the dialogue with the reply."""
        (answer,) = self.generate([awaiting_reply(dialogue)], temperature=temperature)
        notes = {name: text for name, text in answer.notes().items() if name != "reply" and text}
        turns = (*dialogue.turns, Turn(SUPPORTER, answer.text))
        return notes, replace(dialogue, turns=turns)
