"""A method that answers every query with its length, and some queries."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

import datamodules
from zoo.encoding import Batch
from zoo.evaluation import EvaluatedModule, Pair
from zoo.losses.cross_entropy import Term
from zoo.metrics.records import RecordMean
from zoo.prompts.thoughts import ThoughtEncoder
from zoo.records import Triple

LENGTHS = [3, 1, 4, 1, 5, 9, 2]
QUERIES = [Triple("x" * n, "hm", "yes", id=f"{i}") for i, n in enumerate(LENGTHS)]


class Ordered(RecordMean):
    """A score that depends on the order of records, and their number."""

    def compute(self) -> dict[str, float]:  # type: ignore[override]
        answers = self.kept()
        ordered = sum(place * answer for place, answer in enumerate(answers, start=1))
        return {"ordered": ordered, "n": len(answers)}


class Lengths(EvaluatedModule):
    """Answers with the length of a query; its score depends on the order of answers.

    Args:
        max_generated: See `EvaluatedModule`.
        log: File that is given what this process answered and scored, with its rank.
    """

    takes: ClassVar[tuple[type, ...]] = (Triple,)
    headline: ClassVar[tuple[str, ...]] = ("mean",)

    def __init__(self, max_generated: int | None = None, log: str | None = None) -> None:
        super().__init__({"name": "tiny-llama"}, None, max_generated=max_generated)
        self.save_hyperparameters()
        self.file = log
        self.asked: list[str] = []
        self.scored: dict[str, float] = {}
        self.metrics["mean"] = RecordMean()
        self.metrics["order"] = Ordered()

    def build_encoder(self, tokenizer: Any) -> ThoughtEncoder:
        return ThoughtEncoder(tokenizer, None, 0)

    def losses(self, batch: Batch) -> dict[str, Term]:
        return {"one": Term(torch.tensor(1.0), torch.tensor(1.0))}

    def answer(self, records: Sequence[Triple]) -> list[int]:
        self.asked += [record.id for record in records]
        return [len(record.query) for record in records]

    def sample(self, record: Triple, answer: int) -> dict[str, str]:
        return {"id": record.id, "length": str(answer)}

    def prediction(self, record: Triple, answer: int) -> dict[str, Any]:
        return {"id": record.id, "length": answer}

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        for metric in self.each_metric().values():
            metric.update([answer for _, answer in pairs], ids)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.answers:
            mean = float(self.each_metric()["mean"].compute())
            self.scored = {"mean": mean, **self.each_metric()["order"].compute()}
        if self.file is not None:
            held = {"asked": self.asked, "scored": self.scored}
            Path(f"{self.file}.{os.environ.get('LOCAL_RANK', 0)}").write_text(json.dumps(held))


class Queries(datamodules.Triples):
    """The queries above, some of them twice, the same in every split."""

    def __init__(self) -> None:
        super().__init__(eval_batch_size=2)

    def load(self, split: str) -> list[Any]:
        return [*QUERIES, *QUERIES[2:5]]
