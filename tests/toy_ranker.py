"""A ranker without a paper: it scores words that query and document share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from zoo.encoding import Batch, Example, Segment, collate, encode
from zoo.losses.cross_entropy import Term, head_loss, total_loss
from zoo.nn.blocks import Blocks, num_blocks, place
from zoo.ranking.evaluation import RankingModule
from zoo.records import Ranking


@dataclass
class ToyEncoder:
    """One example per document; the record stays on the first."""

    tokenizer: Any
    records: tuple[type, ...] = (Ranking,)

    def __call__(self, record: Ranking) -> list[Example]:
        made = []
        for name in record.pool:
            text = record.corpus.documents[name].content[:40]
            segments = [Segment(text, "document"), Segment(record.query[-40:], "query", 0)]
            made.append(encode(self.tokenizer, segments, record=record if not made else None))
        return made

    def collate(self, examples: Sequence[Example], normalizers: dict[int, float]) -> Batch:
        return collate(examples, normalizers)

    def report_cut(self) -> None: ...


class Toy(RankingModule):
    """Shared words over the document's words.

    Args:
        max_ranked: See `RankingModule`.
        log: File that gets a line per ranked record; the process is added to its name.
    """

    takes: ClassVar[tuple[type, ...]] = (Ranking,)

    def __init__(self, max_ranked: int | None = None, log: str | None = None) -> None:
        super().__init__({"name": "tiny-llama"}, None, max_ranked=max_ranked)
        self.save_hyperparameters()
        self.log_path = log
        self.ranked: list[str] = []

    def build_encoder(self, tokenizer: Any) -> ToyEncoder:
        return ToyEncoder(tokenizer)

    def losses(self, batch: Batch) -> dict[str, Term]:
        top = Blocks(self.lm, 0, num_blocks(self.lm))(batch.input_ids, **place(batch))
        return {"toy": head_loss(top, batch, 0, self.lm.lm_head.weight, self.lm.model.norm)}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return total_loss(self.losses(batch))

    def scores(self, records: Sequence[Ranking]) -> list[list[float]]:
        assert not self.training
        for record in records:
            self.ranked.append(record.id)
            if self.log_path:
                with Path(f"{self.log_path}.{self.global_rank}").open("a") as file:
                    file.write(json.dumps(record.id) + "\n")
        return [[score(record, name) for name in record.pool] for record in records]


def score(record: Ranking, name: str) -> float:
    words = record.corpus.documents[name].content.lower().split()
    asked = set(record.query.lower().split())
    return sum(word in asked for word in words) / len(words)
