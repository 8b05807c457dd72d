"""Evaluation of methods that answer in levels: decoded paths, their scores, confusions, chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch

from zoo.evaluation import EvaluatedModule, Pair
from zoo.methods.hdlm.metrics import FAILED, DialogueReplies, PathScores, confusion, has_letter
from zoo.methods.hdlm.prompts import Plan, labels_of
from zoo.metrics.answers import AnswerAccuracy, exact
from zoo.plots import heat_map
from zoo.records import SUPPORTER, Dialogue, LabelPath, Question, Turn
from zoo.support.labels import STRATEGIES

MAX_CLASSES = 40  # of a confusion matrix


class LevelingModule(EvaluatedModule):
    """A module with `generate(plans)`; its encoder's examples have plans as records."""

    headline: ClassVar[tuple[str, ...]] = ("joint_accuracy",)
    reply_setting: ClassVar[str | None] = "max_new_tokens"

    def __init__(self, backbone: Any, optimizer: Any, *, max_generated: int | None) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.metrics["paths"] = PathScores()
        self.metrics["replies"] = DialogueReplies()  # of dialogues
        self.metrics["loose"] = AnswerAccuracy(has_letter, "loose_accuracy")  # of questions

    def prediction(self, record: Plan, answer: list[str]) -> dict[str, Any]:
        """Return the decoded path beside the right one."""
        return {"id": record.id, "path": answer, "gold": list(record.names)}

    def sample(self, record: Plan, answer: list[str]) -> dict[str, str]:
        """Return the row that TensorBoard shows of a path, the gold beside each level."""
        row = {"text": record.turns[-1][1]}
        for i, (name, gold) in enumerate(zip(answer, record.names, strict=True), start=1):
            row |= {f"level {i}": name, f"gold {i}": gold}
        return row

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Count the right paths, and replies and letters; see `compared`."""
        metrics = self.each_metric()
        paths = [compared(plan, path) for plan, path in pairs]
        metrics["paths"].update([path for path, _ in paths], [gold for _, gold in paths], ids)
        for name, kind in (("replies", Dialogue), ("loose", Question)):
            last = [
                (path[-1], plan.names[-1], plan_id)
                for (plan, path), plan_id in zip(pairs, ids, strict=True)
                if isinstance(plan.record, kind)
            ]
            texts, gold, known = ([row[i] for row in last] for i in range(3))
            metrics[name].update(texts, gold, ids=known)

    def figures(self) -> dict[str, Any]:
        """Return a confusion matrix of every level with few enough classes."""
        drawn = {}
        closed = [(plan.names, path) for plan, path in self.answers.values() if plan.is_closed()]
        for level in range(len(closed[0][0]) if closed else 0):
            gold = [names[level] for names, _ in closed]
            names = sorted(set(gold))
            if len(names) > MAX_CLASSES:
                continue
            counts = confusion([path[level] for _, path in closed], gold, names)
            table = torch.tensor(counts, dtype=torch.float32)
            share = table / table.sum(1, keepdim=True)
            title = f"level {level + 1}: rows are gold, columns decoded"
            drawn[f"confusion/level_{level + 1}"] = heat_map(
                share, names, [*names, FAILED], title, "share of the gold class"
            )
        return drawn

    # -- verbs ---------------------------------------------------------------------------------

    def show(
        self, records: Sequence[Any], *, prompt: str | None = None, given: str | None = None
    ) -> list[dict[str, str]]:
        """Return what was asked and every level of the reply, with the gold beside it.

        Args:
            records: What to decode.
            prompt: Decode this text instead of the first record's; its classes are used.
            given: Name or text of the first level to use instead of decoding one.
        """
        plans = [plan for record in records for plan in self.encoder().plans(record)][
            : len(records)
        ]
        if prompt:
            plans = [plans[0].asking(prompt)]
        forced = None if given is None else [[given]] * len(plans)
        rows = []
        for plan, path in zip(plans, self.generate(plans, forced=forced), strict=True):
            row = {"text": plan.turns[-1][1]}
            for i, (name, gold) in enumerate(zip(path, plan.names, strict=True)):
                row[f"level {i + 1}"] = name if prompt else f"{name}   [gold: {gold}]"
            rows.append(row)
        return rows

    def converse(
        self, dialogue: Dialogue, *, temperature: float = 0.0
    ) -> tuple[dict[str, str], Dialogue]:
        """Return what is decoded before a reply beside it, and the dialogue with the reply.

        Args:
            dialogue: Ends with a seeker's turn.
            temperature: Of the reply; 0 is greedy.

        Raises:
            InputError: The method's levels are not those of a dialogue.
        """
        encoder = self.encoder()
        # Plans come from annotated dialogues; what stands in for the labels is not read.
        waiting = Turn(SUPPORTER, "...", strategy=STRATEGIES[0])
        emotion = labels_of(dialogue, "emotion", encoder.emotions)[0]
        known = replace(dialogue, emotion=emotion, turns=(*dialogue.turns, waiting))
        plan = encoder.plans(known)[-1]
        (path,) = self.generate([plan], temperature=temperature)
        notes = dict(zip(plan.guide, path, strict=False))
        strategy = notes.get("strategy", "")
        turn = Turn(SUPPORTER, path[-1], strategy if strategy in STRATEGIES else STRATEGIES[-1])
        return notes, replace(dialogue, turns=(*dialogue.turns, turn))


def compared(plan: Plan, path: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the decoded and the right path as they are scored.

    A dialogue's are those of its guide: the reply has scores of its own. Other free text that is
    equal after normalising is right.
    """
    if isinstance(plan.record, LabelPath):
        return list(path), list(plan.names)
    if isinstance(plan.record, Dialogue):
        return list(path[: len(plan.guide)]), list(plan.names[: len(plan.guide)])
    pairs = zip(path, plan.names, strict=True)
    return [g if exact(p, g) else p for p, g in pairs], list(plan.names)
