"""How methods are evaluated: every record is answered once, and all processes log one score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, cast

from torch import Tensor, nn
from torchmetrics import Metric

from zoo import given_loaders, parallel
from zoo.loss_logs import log_total
from zoo.module import ZooModule

Pair = tuple[Any, Any]
"""A record and the answer to it."""


class EvaluatedModule(ZooModule):
    """A module that answers the records of its batches in validation, test and prediction.

    In each epoch a record is answered where a batch first holds it, at most `max_generated` of
    them over all processes. Metrics are updated with the new answers of every batch. At the end of
    the epoch they are logged, over the answers of all processes; figures are drawn from the
    gathered answers.

    A method puts its metrics into `metrics` when it is made and writes `losses`, `answer`,
    `update_metrics`, `sample` and `prediction`. `headline` names its scores that the progress bar
    shows; `filler` is a record to answer where only other processes have something new (None: one
    of the batch).

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_generated: Records to answer in each validation or test; None for all.
    """

    headline: ClassVar[tuple[str, ...]] = ("accuracy",)
    filler: ClassVar[Any] = None

    def __init__(self, backbone: Any, optimizer: Any, *, max_generated: int | None = None) -> None:
        super().__init__(backbone, optimizer)
        self.max_generated = max_generated
        self.answers: dict[str, Pair] = {}  # of this epoch, by the record's id
        self.counted: dict[str, None] = {}  # ids that any process answers, in order; with a limit
        self.answered: list[list[str]] = []  # ids that were new in each batch
        self.metrics = nn.ModuleDict()  # a metric of one number is logged under its name here

    # -- for a method to write -----------------------------------------------------------------

    def generate(self, records: Sequence[Any], **options: Any) -> Sequence[Any]:
        """Return what the method writes for each record."""
        raise TypeError(f"{type(self).__name__} does not implement generate(records)")

    def answer(self, records: Sequence[Any]) -> Sequence[Any]:
        """Return an answer to each record: what `generate` writes, unless a method says otherwise.

        Where weights are sharded every process calls it at the same time, not always with as many
        records: loops over the blocks end when `everyone_done` says so.
        """
        return self.generate(records)

    def sample(self, record: Any, answer: Any) -> dict[str, str]:
        """Return the row that TensorBoard shows of an answer."""
        raise TypeError(f"{type(self).__name__} does not implement sample(record, answer)")

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Update every metric with answers; called for each batch in every process.

        Args:
            pairs: Records and the answers to them; often none.
            ids: The name of each record; one that comes twice counts once.
        """
        raise TypeError(f"{type(self).__name__} does not implement update_metrics(pairs, ids)")

    def prepare_metrics(self, stage: str) -> None:
        """Set what of the metrics depends on `val` or `test`, just before they are computed."""

    def prediction(self, record: Any, answer: Any) -> dict[str, Any]:
        """Return what `predict` writes of an answer, as plain values."""
        raise TypeError(f"{type(self).__name__} does not implement prediction(record, answer)")

    # -- the life cycle ------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuse loaders of records, which no encoder has made batches of."""
        given_loaders.check_loaders(self, stage)

    def start_evaluation(self) -> None:
        """Forget the answers of the last epoch."""
        self.answers, self.answered, self.supervised = {}, [], {}
        self.counted = {}
        self.metrics.to(self.device)  # not every strategy moves what is no weight
        for metric in self.each_metric().values():
            metric.reset()

    def on_validation_epoch_start(self) -> None:
        """Forget the answers of the last epoch."""
        self.start_evaluation()

    def on_test_epoch_start(self) -> None:
        """Forget the answers of the last epoch."""
        self.start_evaluation()

    def on_predict_epoch_start(self) -> None:
        """Forget the answers of the last epoch."""
        self.start_evaluation()

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Log the loss terms; return samples of the new answers."""
        return self.evaluate(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Log the loss terms; return samples of the new answers."""
        return self.evaluate(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Any]]:
        """Return what is predicted for each new record of the batch."""
        return [self.prediction(*pair) for pair in self.answer_new(batch)]

    def on_validation_epoch_end(self) -> None:
        """Log the weighted sum of the losses, and the scores of all answers."""
        log_total(self, "val")
        self.log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the weighted sum of the losses, and the scores of all answers."""
        log_total(self, "test")
        self.log_scores("test")

    def evaluate(self, batch: Any, stage: str) -> dict[str, Any]:
        """Log the loss terms of a batch; answer its new records and return samples."""
        self.log_terms(stage, self.losses(batch))
        pairs = self.answer_new(batch, self.max_generated)
        self.update_metrics(pairs, [name_of(record) for record, _ in pairs])
        return {"samples": [self.sample(*pair) for pair in pairs]}

    def new_records(self, batch: Any) -> dict[str, Any]:
        """Return the records of a batch that are not answered yet, each once, by id."""
        if math.inf in batch.normalizers.values():  # a filler: another process has this batch
            return {}
        named = {name_of(record): record for record in batch.records if record is not None}
        return {name: record for name, record in named.items() if name not in self.answers}

    def answer_new(self, batch: Any, limit: int | None = None) -> list[Pair]:
        """Answer the new records of a batch and keep the answers.

        Args:
            batch: Holds `records` and `normalizers`.
            limit: Records to answer in the epoch; None for all.
        """
        new = self.new_records(batch)
        if limit is not None:
            new = self.within(limit, new)
        self.answered.append(list(new))
        if self.everyone_done(not new):
            return []
        # A process without new records answers along: others may need its share of the weights.
        filler = batch.records[0] if self.filler is None else self.filler
        answers = self.answer([*new.values()] or [filler])[: len(new)]
        pairs = list(zip(new.values(), answers, strict=True))
        self.answers |= dict(zip(new, pairs, strict=True))
        return pairs

    def within(self, limit: int, new: dict[str, Any]) -> dict[str, Any]:
        """Return those of a batch's new records that one process would answer under a limit.

        Batches are dealt to the processes in turn, so the records of each turn are counted in the
        order of the processes; called in all of them.
        """
        for names in parallel.gathered(list(new)):
            for name in names:
                if len(self.counted) < limit:
                    self.counted[name] = None
        return {name: record for name, record in new.items() if name in self.counted}

    def each_metric(self) -> dict[str, Metric]:
        """Return the metrics by name."""
        return {name: cast(Metric, metric) for name, metric in self.metrics.items()}

    def gather(self) -> None:
        """Take the answers of all processes, in the order in which one process finds them."""
        processes = parallel.gathered((self.answers, self.answered))
        # Batches are dealt to the processes in turn, each has the same number of them.
        turns = zip(*(answered for _, answered in processes), strict=True)
        names = [name for turn in turns for batch in turn for name in batch]
        known = {name: pair for answers, _ in processes for name, pair in answers.items()}
        self.answers = {name: known[name] for name in names}

    def log_scores(self, stage: str) -> None:
        """Gather the answers and log their scores; nothing if no process has any."""
        self.gather()
        if not self.answers:
            return
        self.prepare_metrics(stage)
        for name, metric in self.each_metric().items():
            value = metric.compute()
            scores = {name: metric} if isinstance(value, Tensor) else value
            for score, logged in scores.items():
                self.log(f"{stage}/{score}", logged, prog_bar=score in self.headline)

    def score_answers(self, pairs: Sequence[Pair], stage: str) -> dict[str, float]:
        """Return the scores of some answers by name, outside of an epoch.

        Args:
            pairs: Records and answers to them, at least one.
            stage: Scores of `val` or of `test`.
        """
        self.start_evaluation()
        ids = [name_of(record) for record, _ in pairs]
        self.answers = dict(zip(ids, pairs, strict=True))
        self.update_metrics(pairs, ids)
        self.prepare_metrics(stage)
        scores: dict[str, float] = {}
        for name, metric in self.each_metric().items():
            value = metric.compute()
            scores |= {name: float(value)} if isinstance(value, Tensor) else value
        return scores


def name_of(record: Any) -> str:
    """Return a record's id, or all that it holds if it has none."""
    return record.id or repr(record)
