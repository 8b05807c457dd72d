"""Evaluation of replies under conditions: accuracy by task and group, and beta by condition."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from zoo.evaluation import EvaluatedModule, Pair
from zoo.metrics.answers import AnswerAccuracy, contains
from zoo.metrics.text_metrics import CorpusBleu, Distinct, RougeL
from zoo.plots import heat_map
from zoo.records import Conditioned

MAX_CONDITIONS = 12  # of a heat map
GROUPS = 5  # of blocks in a printed beta map


@dataclass(frozen=True, slots=True)
class ConditionedReply:
    """A reply and the mean beta of each block over prompt and reply."""

    answer: str
    betas: list[float]


class ConditioningModule(EvaluatedModule):
    """A module that answers `Conditioned` records; `generate` returns `ConditionedReply`s.

    `accuracy` is strict (equal after normalising); `mention_accuracy` is the released default: the
    reference stands somewhere in the reply. Both are logged in total, by task and by group. For
    free replies (persona, domain, style) the release has `rouge_l` with beta = 1, `bleu_2`,
    `distinct_1` and `distinct_2`, in percent over all replies; here words are those of
    `zoo.metrics.text` and are not stemmed. Of its scores the Zipf slope, and the number and code
    checks of GSM8K, HumanEval and MBPP, are not built.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_generated: Records to answer in each validation or test; None for all.
    """

    def __init__(self, backbone: Any, optimizer: Any, *, max_generated: int | None) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self.metrics["accuracy"] = AnswerAccuracy()
        self.metrics["mention_accuracy"] = AnswerAccuracy(contains, "mention_accuracy")
        self.metrics["rouge_l"], self.metrics["bleu_2"] = RougeL(beta=1.0), CorpusBleu(2)
        self.metrics["distinct_1"], self.metrics["distinct_2"] = Distinct(1), Distinct(2)

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Score replies: right ones by task and by group, overlap and variety of all."""
        replies = [answer.answer for _, answer in pairs]
        gold = [record.response for record, _ in pairs]
        kinds = [[record.task, record.group] for record, _ in pairs]
        for metric in self.each_metric().values():
            if isinstance(metric, AnswerAccuracy):
                metric.update(replies, gold, kinds, ids)
            elif isinstance(metric, Distinct):
                metric.update(replies, ids)
            else:
                metric.update(replies, gold, ids)

    def prediction(self, record: Conditioned, answer: ConditionedReply) -> dict[str, Any]:
        """Return the reply and its betas."""
        return {"id": record.id, **asdict(answer)}

    def sample(self, record: Conditioned, answer: ConditionedReply) -> dict[str, str]:
        """Return the row that TensorBoard shows of a reply."""
        return {
            "condition": record.condition,
            "query": record.prompt,
            "reply": answer.answer,
            "gold": record.response,
            "beta": beta_map(answer.betas),
        }

    def show(
        self,
        records: Sequence[Conditioned],
        *,
        prompt: str | None = None,
        condition: str | None = None,
    ) -> list[dict[str, str]]:
        """Return condition, query, reply and mean beta by groups of blocks.

        Args:
            records: What to answer.
            prompt: Answer this instead of the first record's, under its system line and condition.
            condition: Answer under this condition; an empty one for none.
        """
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
        betas: dict[str, list[list[float]]] = {}
        for record, answer in self.answers.values():
            betas.setdefault(record.condition, []).append(answer.betas)
        if not betas:
            return {}
        shown = dict(itertools.islice(betas.items(), MAX_CONDITIONS))
        table = torch.stack([torch.tensor(rows).mean(0) for rows in shown.values()])
        names = [text if text.strip() else "none" for text in shown]
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
