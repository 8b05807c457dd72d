"""Evaluation of methods that score documents for a query: losses, ranking scores, figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed

from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term
from zoo.module import ZooModule, evaluating
from zoo.ranking.metrics import mean_scores, query_scores, ranked, recall_curve
from zoo.ranking.plots import recall_curves, score_histogram
from zoo.records import Corpus, Document, Ranking

NUM_SHOWN = 10  # documents of a printed ranking
MAX_VECTORS = 1000  # documents of the projector
FILLER = Ranking("?", Corpus({"?": Document("?", "?")}), (("?", 1),), id="filler")


class Judged(NamedTuple):
    """A ranked record, small enough to be sent between processes.

    Attributes:
        scores: Document id -> score.
        grades: Document id -> grade.
        kind: The record's kind.
    """

    scores: dict[str, float]
    grades: dict[str, int]
    kind: str


class RankingModule(ZooModule):
    """A module with `losses(batch)` and `scores(records)`; evaluates both.

    A record is ranked where `batch.records` first holds it, up to `max_ranked` in each process and
    epoch. An encoder that makes several examples of one record keeps it on the first of them and
    sets `Example.record` of the others to None, so that no two processes rank it; they share the
    work evenly if `eval_batch_size` is a multiple of the number of examples. It also has
    `report_cut()`, which says how many texts were too long.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_ranked: Records to rank in each validation or test; None for all.
    """

    def __init__(self, backbone: Any, optimizer: Any, *, max_ranked: int | None) -> None:
        super().__init__(backbone, optimizer)
        self.max_ranked = max_ranked
        self.found: dict[str, Judged] = {}
        self.vectors: dict[str, tuple[str, torch.Tensor]] = {}  # document id -> title and vector

    def losses(self, batch: Batch) -> dict[str, Term]:
        """Return the loss terms of a batch."""
        raise TypeError(f"{type(self).__name__} does not implement losses(batch)")

    def scores(self, records: Sequence[Ranking]) -> list[list[float]]:
        """Return a score for each document of each record's `pool`, in its order; higher is better.

        Runs in evaluation mode without gradients. Where weights are sharded, every process calls it
        at the same time, not always with as many records or documents: ask `everyone_done` in loops
        over the blocks.
        """
        raise TypeError(f"{type(self).__name__} does not implement scores(records)")

    @evaluating
    def rank(self, records: Sequence[Ranking]) -> list[Judged]:
        """Return the scores and judgements of each record."""
        return [
            Judged(dict(zip(record.pool, row, strict=True)), dict(record.relevant), record.kind)
            for record, row in zip(records, self.scores(records), strict=True)
        ]

    def on_validation_epoch_start(self) -> None:
        """Forget the rankings of the last validation."""
        self.found, self.vectors = {}, {}

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Log the losses; rank the documents of records that were not seen yet."""
        return self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the rankings."""
        self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        """Forget the rankings of the last test."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Do what `validation_step` does, on the test split."""
        return self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log the scores of the rankings."""
        self._log_scores("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        """Return, for each record of the batch, its documents with scores, best first."""
        records = list(new_records(batch, {}).values())
        return [
            {
                "id": record.id,
                "ranking": [[name, judged.scores[name]] for name in ranked(judged.scores)],
                "relevant": judged.grades,
            }
            for record, judged in zip(records, self.rank(records), strict=True)
        ]

    def show(
        self, records: Sequence[Any], *, prompt: str | None = None, thought: str | None = None
    ) -> list[dict[str, str]]:
        """Return each query with its best documents and their scores; `*` marks relevant ones.

        Args:
            records: What to rank.
            prompt: Rank the documents of the first record for this query instead.
            thought: Nothing here takes one.

        Raises:
            InputError: A thought is given.
        """
        if thought is not None:
            raise InputError(f"thought: {type(self).__name__} has no thoughts")
        if prompt:
            first = records[0]
            records = [Ranking(prompt, first.corpus, (), first.candidates, first.kind, "prompt")]
        return [
            {"query": record.query}
            | {str(place): line for place, line in enumerate(lines(record, judged), start=1)}
            for record, judged in zip(records, self.rank(records), strict=True)
        ]

    def keep_vectors(self, records: Sequence[Ranking], vectors: torch.Tensor) -> None:
        """Keep vectors of documents for the projector, up to `MAX_VECTORS`; for `scores` to call.

        Args:
            records: Some records.
            vectors: One for each document of each record's pool, in their order, `(N, D)`.
        """
        documents = [record.corpus.documents[name] for record in records for name in record.pool]
        for document, vector in zip(documents, vectors, strict=True):
            if len(self.vectors) < MAX_VECTORS and document.id not in self.vectors:
                self.vectors[document.id] = (document.title or document.text)[:80], vector.cpu()

    def figures(self) -> dict[str, Any]:
        """Return the scores of relevant and other documents, recall at every k, and vectors."""
        judged = [item for item in self.found.values() if any(g > 0 for g in item.grades.values())]
        if not judged:
            return {}
        right: dict[bool, list[float]] = {True: [], False: []}
        for item in judged:
            for name, score in item.scores.items():
                right[item.grades.get(name, 0) > 0].append(score)
        curve = recall_curve([ranked(item.scores) for item in judged], [i.grades for i in judged])
        known = {name for item in judged for name in item.scores}  # without a filler's
        points = [point for name, point in self.vectors.items() if name in known]
        titles, vectors = zip(*points, strict=True) if points else ((), ())
        return {
            "scores": score_histogram(right[True], right[False]),
            "recall": recall_curves({type(self).__name__: curve}),
            **({"documents": (torch.stack(vectors), titles)} if points else {}),
        }

    def _evaluate(self, stage: str, batch: Batch) -> dict[str, Any]:
        self.log_terms(stage, self.losses(batch))
        filler = math.inf in batch.normalizers.values()  # another process ranks these records
        new = {} if filler else new_records(batch, self.found)
        room = len(new) if self.max_ranked is None else self.max_ranked - len(self.found)
        records = list(new.values())[: max(0, room)]
        if self.everyone_done(not records):
            return {"samples": []}
        # A process without new records ranks along: others may need its share of the weights.
        results = self.rank(records or [FILLER])[: len(records)]
        self.found |= {record.id: found for record, found in zip(records, results, strict=True)}
        samples = [
            {"query": record.query, "ranking": "\n".join(lines(record, found))}
            for record, found in zip(records, results, strict=True)
        ]
        return {"samples": samples}

    def _log_scores(self, stage: str) -> None:
        self.encoder().report_cut()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            everyone: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(everyone, self.found)
            self.found = {key: value for part in everyone for key, value in part.items()}
        if not self.found:
            return
        queries: dict[str, list[dict[str, float]]] = {"": []}
        for judged in self.found.values():
            found = query_scores(judged.scores, judged.grades)
            queries[""].append(found)
            if judged.kind:
                queries.setdefault(f"_{judged.kind}", []).append(found)
        for kind, rows in queries.items():
            for name, value in mean_scores(rows).items():
                self.log(f"{stage}/{name}{kind}", value, prog_bar=f"{name}{kind}" == "MRR@10")


def new_records(batch: Batch, known: dict[str, Judged]) -> dict[str, Ranking]:
    """Return the records of a batch that are not known yet, each once, by id."""
    records = [record for record in batch.records if record is not None]
    return {record.id: record for record in records if record.id not in known}


def lines(record: Ranking, judged: Judged) -> list[str]:
    """Return the best documents of a query with their scores, `*` before the relevant ones."""
    found = []
    for name in ranked(judged.scores)[:NUM_SHOWN]:
        mark = "*" if judged.grades.get(name, 0) > 0 else " "
        document = record.corpus.documents[name]
        found.append(f"{mark} {judged.scores[name]:.4f} {(document.title or document.text)[:80]}")
    return found
