"""Evaluation of methods that answer in levels: losses, decoded paths, scores, confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed

from zoo.encoding import Batch
from zoo.losses.cross_entropy import Term
from zoo.methods.hdlm.metrics import FAILED, confusion, path_scores
from zoo.methods.hdlm.prompts import Plan
from zoo.metrics.answers import exact
from zoo.module import ZooModule
from zoo.plots import heat_map
from zoo.records import SUPPORTER, Dialogue, Turn
from zoo.support.labels import EMOTIONS, STRATEGIES

MAX_CLASSES = 40  # of a confusion matrix


class LevelingModule(ZooModule):
    """A module with `losses(batch)` and `generate(plans)`; evaluates both.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_generated: Records to decode in each validation or test; None for all.
    """

    def __init__(self, backbone: Any, optimizer: Any, *, max_generated: int | None) -> None:
        super().__init__(backbone, optimizer)
        self.max_generated = max_generated
        self.found: dict[str, tuple[list[str], list[str], bool]] = {}

    def losses(self, batch: Batch) -> dict[str, Term]:
        """Return the loss terms of a batch."""
        raise TypeError(f"{type(self).__name__} does not implement losses(batch)")

    def generate(
        self, plans: Sequence[Plan], *, forced: Sequence[Sequence[str]] | None = None
    ) -> list[list[str]]:
        """Return the name found at every level of each plan; `forced` gives the first ones."""
        raise TypeError(f"{type(self).__name__} does not implement generate(plans)")

    def on_validation_epoch_start(self) -> None:
        """Forget the paths of the last validation."""
        self.found = {}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Log the losses; decode the records, up to `max_generated` per epoch."""
        return self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the decoded paths."""
        self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        """Forget the paths of the last test."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Do what `validation_step` does, on the test split."""
        return self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log the scores of the decoded paths."""
        self._log_scores("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        """Return the path decoded for each record of the batch."""
        plans = list({plan.id: plan for plan in batch.records}.values())
        return [
            {"id": plan.id, "path": path, "gold": list(plan.names)}
            for plan, path in zip(plans, self.generate(plans), strict=True)
        ]

    def show(
        self, records: Sequence[Any], *, prompt: str | None = None, thought: str | None = None
    ) -> list[dict[str, str]]:
        """Return what was asked and every level of the reply, with the gold beside it.

        Args:
            records: What to decode.
            prompt: Decode this text instead of the first record's; its classes are used.
            thought: Name or text of the first level to use instead of decoding one.
        """
        plans = [plan for record in records for plan in self.encoder().plans(record)][
            : len(records)
        ]
        if prompt:
            plans = [plans[0].asking(prompt)]
        forced = None if thought is None else [[thought]] * len(plans)
        rows = []
        for plan, path in zip(plans, self.generate(plans, forced=forced), strict=True):
            row = {"text": plan.turns[-1][1]}
            for i, (name, gold) in enumerate(zip(path, plan.names, strict=True)):
                row[f"level {i + 1}"] = name if prompt else f"{name}   [gold: {gold}]"
            rows.append(row)
        return rows

    def converse(self, dialogue: Dialogue) -> tuple[dict[str, str], Dialogue]:
        """Return what is decoded before a reply beside it, and the dialogue with the reply.

        Raises:
            InputError: The method takes no dialogues, or its levels are not those of one.
        """
        if Dialogue not in self.takes:
            return super().converse(dialogue)
        guide: tuple[str, ...] = self.encoder().guide
        # Plans come from annotated dialogues; what stands in for the labels is not read.
        waiting = Turn(SUPPORTER, "...", strategy=STRATEGIES[0])
        known = replace(dialogue, emotion=dialogue.emotion or EMOTIONS[0])
        plan = self.encoder().plans(replace(known, turns=(*dialogue.turns, waiting)))[-1]
        (path,) = self.generate([plan])
        notes = dict(zip(guide, path, strict=False))
        strategy = notes.get("strategy", "")
        turn = Turn(SUPPORTER, path[-1], strategy if strategy in STRATEGIES else STRATEGIES[-1])
        return notes, replace(dialogue, turns=(*dialogue.turns, turn))

    def figures(self) -> dict[str, Any]:
        """Return a confusion matrix of every level with few enough classes."""
        drawn = {}
        for level in range(len(next(iter(self.found.values()))[0]) if self.found else 0):
            pairs = [
                (path[level], gold[level]) for path, gold, closed in self.found.values() if closed
            ]
            names = sorted({gold for _, gold in pairs})
            if pairs and len(names) <= MAX_CLASSES:
                counts = confusion([p for p, _ in pairs], [g for _, g in pairs], names)
                table = torch.tensor(counts, dtype=torch.float32)
                share = table / table.sum(1, keepdim=True)
                title = f"level {level + 1}: rows are gold, columns decoded"
                drawn[f"confusion/level_{level + 1}"] = heat_map(
                    share, names, [*names, FAILED], title, "share of the gold class"
                )
        return drawn

    def _evaluate(self, stage: str, batch: Batch) -> dict[str, Any]:
        self.log_terms(stage, self.losses(batch))
        new = {plan.id: plan for plan in batch.records if plan.id not in self.found}
        room = len(new) if self.max_generated is None else self.max_generated - len(self.found)
        plans = list(new.values())[: max(0, room)]
        if self.everyone_done(not plans):
            return {"samples": []}
        # A process without new plans decodes along: others may need its share of the weights.
        paths = self.generate(plans or batch.records[:1])[: len(plans)]
        samples = []
        for plan, path in zip(plans, paths, strict=True):
            closed = plan.is_closed()
            self.found[plan.id] = (path, list(plan.names), closed)
            sample = {"text": plan.turns[-1][1]}
            for i, (name, gold) in enumerate(zip(path, plan.names, strict=True)):
                sample |= {f"level {i + 1}": name, f"gold {i + 1}": gold}
            samples.append(sample)
        return {"samples": samples}

    def _log_scores(self, stage: str) -> None:
        found = dict(self.found)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            everyone: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(everyone, self.found)
            found = {key: value for part in everyone for key, value in part.items()}
        if not found:
            return
        predicted = [path for path, _, _ in found.values()]
        gold = [path for _, path, _ in found.values()]
        if not all(closed for _, _, closed in found.values()):  # free text: equal after normalising
            predicted = [
                [g if exact(p, g) else p for p, g in zip(path, right, strict=True)]
                for path, right in zip(predicted, gold, strict=True)
            ]
        for name, value in path_scores(predicted, gold).items():
            self.log(f"{stage}/{name}", value, prog_bar=name == "joint_accuracy")
