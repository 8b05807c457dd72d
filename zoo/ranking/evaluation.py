"""Evaluation of methods that score documents for a query: rankings, their scores, figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from zoo.evaluation import EvaluatedModule, Pair
from zoo.module import evaluating
from zoo.ranking.metrics import RankingScores, ranked, recall_curve
from zoo.ranking.plots import recall_curves, score_histogram
from zoo.records import Corpus, Document, Ranking

NUM_SHOWN = 10  # documents of a printed ranking
FILLER = Ranking("?", Corpus({"?": Document("?", "?")}), (("?", 1),), id="filler")


class RankedQuery(NamedTuple):
    """The scores of a query's documents beside their judgements.

    Attributes:
        scores: Document id -> score; higher is better.
        grades: Document id -> grade.
        kind: The record's kind.
    """

    scores: dict[str, float]
    grades: dict[str, int]
    kind: str


class RankingModule(EvaluatedModule):
    """A module with `losses(batch)` and `scores(records)`; ranks the documents of records.

    An encoder that makes several examples of one record keeps it on the first of them and sets
    `Example.record` of the others to None, so that no two processes rank it; they share the work
    evenly if `eval_batch_size` is a multiple of the number of examples. It also has `report_cut()`,
    which says how many texts were too long.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_ranked: Records to rank in each validation or test; None for all.
    """

    headline: ClassVar[tuple[str, ...]] = ("MRR@10",)
    filler: ClassVar[Ranking] = FILLER

    def __init__(self, backbone: Any, optimizer: Any, *, max_ranked: int | None) -> None:
        super().__init__(backbone, optimizer, max_generated=max_ranked)
        self.metrics["rankings"] = RankingScores()

    def scores(self, records: Sequence[Ranking]) -> list[list[float]]:
        """Return a score for each document of each record's `pool`, in its order; higher is better.

        Runs in evaluation mode without gradients. Where weights are sharded, every process calls it
        at the same time, not always with as many records or documents: ask `everyone_done` in loops
        over the blocks.
        """
        raise TypeError(f"{type(self).__name__} does not implement scores(records)")

    @evaluating
    def rank(self, records: Sequence[Ranking]) -> list[RankedQuery]:
        """Return the scores and judgements of each record."""
        return [
            RankedQuery(
                dict(zip(record.pool, row, strict=True)), dict(record.relevant), record.kind
            )
            for record, row in zip(records, self.scores(records), strict=True)
        ]

    def answer(self, records: Sequence[Ranking]) -> list[RankedQuery]:
        """Return the scores and judgements of each record."""
        return self.rank(records)

    def sample(self, record: Ranking, answer: RankedQuery) -> dict[str, str]:
        """Return the query and its best documents."""
        return {"query": record.query, "ranking": "\n".join(lines(record, answer))}

    def prediction(self, record: Ranking, answer: RankedQuery) -> dict[str, Any]:
        """Return the documents of a query with their scores, best first."""
        best = [[name, answer.scores[name]] for name in ranked(answer.scores)]
        return {"id": record.id, "ranking": best, "relevant": answer.grades}

    def gather(self) -> None:
        """Take the rankings of all processes, without the corpus, which all of them have."""
        self.answers = {name: (None, query) for name, (_, query) in self.answers.items()}
        super().gather()

    def log_scores(self, stage: str) -> None:
        """Say how many texts were cut; log the scores of all rankings."""
        self.encoder().report_cut()
        super().log_scores(stage)

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Score the rankings, in total and by kind."""
        queries = [query for _, query in pairs]
        self.each_metric()["rankings"].update(
            [query.scores for query in queries],
            [query.grades for query in queries],
            [query.kind for query in queries],
            ids,
        )

    def figures(self) -> dict[str, Any]:
        """Return the scores of relevant and of other documents, and recall at every k."""
        queries = [query for _, query in self.answers.values()]
        judged = [query for query in queries if any(grade > 0 for grade in query.grades.values())]
        if not judged:
            return {}
        scores: dict[bool, list[float]] = {True: [], False: []}  # of relevant documents, of others
        for query in judged:
            for name, score in query.scores.items():
                scores[query.grades.get(name, 0) > 0].append(score)
        grades = [query.grades for query in judged]
        curve = recall_curve([ranked(query.scores) for query in judged], grades)
        return {
            "scores": score_histogram(scores[True], scores[False]),
            "recall": recall_curves({type(self).__name__: curve}),
        }

    def show(
        self, records: Sequence[Ranking], *, prompt: str | None = None
    ) -> list[dict[str, str]]:
        """Return each query with its best documents and their scores; `*` marks relevant ones.

        Args:
            records: What to rank.
            prompt: Rank the documents of the first record for this query instead.
        """
        if prompt:
            first = records[0]
            records = [Ranking(prompt, first.corpus, (), first.candidates, first.kind, "prompt")]
        return [
            {"query": record.query}
            | {str(place): line for place, line in enumerate(lines(record, query), start=1)}
            for record, query in zip(records, self.rank(records), strict=True)
        ]


def lines(record: Ranking, query: RankedQuery) -> list[str]:
    """Return the best documents of a query with their scores, `*` before the relevant ones."""
    shown = []
    for name in ranked(query.scores)[:NUM_SHOWN]:
        mark = "*" if query.grades.get(name, 0) > 0 else " "
        document = record.corpus.documents[name]
        shown.append(f"{mark} {query.scores[name]:.4f} {(document.title or document.text)[:80]}")
    return shown
