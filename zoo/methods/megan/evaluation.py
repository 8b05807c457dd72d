"""Evaluation of replies under conditions: accuracy by task and group, and what beta becomes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from zoo.errors import InputError
from zoo.evaluation import ReplyingModule
from zoo.metrics.answers import contains, exact
from zoo.plots import heat_map
from zoo.records import Conditioned

MAX_CONDITIONS = 12  # of a heat map
LONGEST = 40  # letters of a condition in a figure
GROUPS = 5  # of blocks in a printed beta map


@dataclass(frozen=True, slots=True)
class ConditionedReply:
    """A reply and the mean beta of each block over prompt and reply."""

    answer: str
    betas: list[float]


class ConditioningModule(ReplyingModule):
    """A module that answers `Conditioned` records; `generate` returns `ConditionedReply`s.

    Accuracy is strict (equal after normalising); `mention_accuracy` is the released default, the
    reference stands somewhere in the reply. Both are logged in total, by task and by group.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_generated: Records to answer in each validation or test; None for all.
    """

    def __init__(self, backbone: Any, optimizer: Any, *, max_generated: int | None) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.betas: dict[str, list[list[float]]] = {}  # by condition

    def on_validation_epoch_start(self) -> None:
        """Start counting answers and forget the betas of the last validation."""
        super().on_validation_epoch_start()
        self.betas = {}

    def score(self, record: Conditioned, reply: ConditionedReply) -> None:
        """Count a reply; keep its betas for the figure."""
        right = exact(reply.answer, record.response)
        self._exact.add(record.task, right, record.group)
        self._mentions.add(record.task, contains(reply.answer, record.response), record.group)
        self.betas.setdefault(record.condition, []).append(reply.betas)

    def sample(self, record: Conditioned, reply: ConditionedReply) -> dict[str, str]:
        """Return the row that TensorBoard shows of a reply."""
        return {
            "condition": record.condition,
            "query": record.prompt,
            "reply": reply.answer,
            "gold": record.response,
            "beta": beta_map(reply.betas),
        }

    def show(
        self,
        records: Sequence[Conditioned],
        *,
        prompt: str | None = None,
        thought: str | None = None,
        condition: str | None = None,
    ) -> list[dict[str, str]]:
        """Return condition, query, reply and mean beta by groups of blocks.

        Args:
            records: What to answer.
            prompt: Answer this instead of the first record's, under its system line and condition.
            thought: Nothing here takes one.
            condition: Answer under this condition; an empty one for none.

        Raises:
            InputError: A thought is given.
        """
        if thought is not None:
            raise InputError(f"thought: {type(self).__name__} has no thoughts")
        asked = [replace(records[0], prompt=prompt)] if prompt else list(records)
        if condition is not None:
            asked = [replace(record, condition=condition) for record in asked]
        same = not prompt and condition is None
        rows = []
        for record, reply in zip(asked, self.generate(asked), strict=True):
            gold = f"   [gold: {record.response}]" if same else ""
            rows.append(
                {
                    "condition": record.condition or "none",
                    "query": record.prompt,
                    "reply": reply.answer + gold,
                    "beta": beta_map(reply.betas),
                }
            )
        return rows

    def figures(self) -> dict[str, Any]:
        """Return a heat map of the mean beta by condition and block."""
        shown = dict(itertools.islice(self.betas.items(), MAX_CONDITIONS))
        if not shown:
            return {}
        table = torch.stack([torch.tensor(rows).mean(0) for rows in shown.values()])
        names = [" ".join(text.split())[:LONGEST] or "none" for text in shown]
        blocks = [str(i + 1) for i in range(table.shape[1])]
        title = "mean beta by condition and block"
        return {"beta": heat_map(table, names, blocks, title, "beta", low=None, digits=3)}


def beta_map(betas: Sequence[float]) -> str:
    """Return the mean beta of groups of blocks as a line.

    Example:
        >>> beta_map([1.0, 1.25, 0.75])
        'block 1 1.0000, block 2 1.2500, block 3 0.7500'
    """
    count = len(betas)
    cuts = [i * count // GROUPS for i in range(GROUPS + 1)]
    parts = []
    for start, stop in itertools.pairwise(sorted(set(cuts))):
        name = f"blocks {start + 1}-{stop}" if stop - start > 1 else f"block {stop}"
        parts.append(f"{name} {sum(betas[start:stop]) / (stop - start):.4f}")
    return ", ".join(parts)
