"""Evaluation of methods that doubt their answers: losses, answers, who is right when willing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch.distributed

from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term
from zoo.methods.lamss.metrics import risk_coverage, selective_scores, tuned_threshold
from zoo.methods.lamss.plots import risk_coverage_plot, shaded_answers
from zoo.methods.lamss.questions import ASKABLE, Askable, asked, gold, key, right
from zoo.module import ZooModule
from zoo.plots import heat_map
from zoo.records import Triple
from zoo.sample_preview import shaded

MAX_SHOWN = 12  # answers of a figure
FILLER = Triple("Why?", "", "Because.")  # answered along where another process still answers


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with the doubt about it.

    Attributes:
        text: The decoded answer.
        skepticism: Doubt by name, each in [0, 1], higher is more doubtful; the first entry is what
            decides. Every answer of a module has the same names in the same order.
        tokens: The answer's tokens with the doubt about each, for colouring; empty for none.
        counts: Other numbers whose mean is logged under their names.
    """

    text: str
    skepticism: dict[str, float]
    tokens: tuple[tuple[str, float], ...] = ()
    counts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What evaluation keeps of an answered question."""

    kind: str
    right: bool
    skepticism: dict[str, float]
    counts: dict[str, float]


class SelectiveModule(ZooModule):
    """A module with `losses(batch)` and `answer(records)`; evaluates both.

    Batches may hold other records than questions; those give losses only.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        eps: Answers with a skepticism below it are given willingly.
        tune_eps: Tune the threshold in every validation, starting from `eps`, and keep it for the
            test; it is saved with the weights.
        max_generated: Questions to answer in each validation or test; None for all.

    Raises:
        InputError: `eps` is not in [0, 1].
    """

    tuned_eps: torch.Tensor

    def __init__(
        self,
        backbone: Any,
        optimizer: Any,
        *,
        eps: float = 0.5,
        tune_eps: bool = False,
        max_generated: int | None = None,
    ) -> None:
        super().__init__(backbone, optimizer)
        if not 0 <= eps <= 1:
            raise InputError(f"model.eps: {eps} is not in [0, 1]")
        self.eps, self.tune_eps, self.max_generated = eps, tune_eps, max_generated
        self.register_buffer("tuned_eps", torch.tensor(float(eps)))
        self.found: dict[str, Found] = {}
        self.shown: list[tuple[str, Answer]] = []  # the first answers, for a figure

    @property
    def threshold(self) -> float:
        """The skepticism below which an answer is given willingly."""
        return float(self.tuned_eps) if self.tune_eps else self.eps

    def losses(self, batch: Batch) -> dict[str, Term]:
        """Return the loss terms of a batch."""
        raise TypeError(f"{type(self).__name__} does not implement losses(batch)")

    def answer(self, records: Sequence[Askable]) -> list[Answer]:
        """Return an answer to each question, with the doubt about it."""
        raise TypeError(f"{type(self).__name__} does not implement answer(records)")

    def on_validation_epoch_start(self) -> None:
        """Forget the answers of the last validation."""
        self.found, self.shown = {}, []

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Log the losses; answer the questions, up to `max_generated` per epoch."""
        return self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Tune the threshold if it is to be tuned; log the scores."""
        self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        """Forget the answers of the last test."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Do what `validation_step` does, on the test split."""
        return self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log the scores."""
        self._log_scores("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        """Return answer, skepticism and decision for each question of the batch."""
        records = list({key(r): r for r in batch.records if isinstance(r, ASKABLE)}.values())
        answers = self.answer(records) if records else []
        return [
            {
                "id": record.id,
                "question": asked(record),
                "answer": found.text,
                "skepticism": found.skepticism,
                "willing": self.willing(found),
                "gold": gold(record),
                "right": right(record, found.text),
            }
            for record, found in zip(records, answers, strict=True)
        ]

    def willing(self, answer: Answer) -> bool:
        """Return whether an answer is given."""
        return next(iter(answer.skepticism.values())) < self.threshold

    def show(
        self, records: Sequence[Any], *, prompt: str | None = None, thought: str | None = None
    ) -> list[dict[str, str]]:
        """Return question, answer, each skepticism, the decision, and the gold answer.

        Args:
            records: What to answer.
            prompt: Ask this open question instead.
            thought: Not taken.

        Raises:
            InputError: A thought is given, or no record is a question.
        """
        if thought is not None:
            raise InputError(f"thought: {type(self).__name__} decodes no thought")
        questions = [record for record in records if isinstance(record, ASKABLE)]
        if prompt:
            questions = [Triple(prompt, "", "")]
        if not questions:
            raise InputError("data: no question among these records; give a prompt")
        rows = []
        for record, found in zip(questions, self.answer(questions), strict=True):
            row = self._sample(record, found)
            if prompt:
                del row["gold"]
            if found.tokens:
                row["answer"] = shaded(found.tokens)
            rows.append(row)
        return rows

    def figures(self) -> dict[str, Any]:
        """Return risk-coverage curves, answers shaded by doubt, accuracy and skepticism by kind."""
        if not self.found:
            return {}
        found = list(self.found.values())
        answers = [one.right for one in found]
        curves = {
            name: risk_coverage([one.skepticism[name] for one in found], answers)
            for name in found[0].skepticism
        }
        drawn = {"risk_coverage": risk_coverage_plot(curves)}
        if shaded := [(text, answer.tokens) for text, answer in self.shown if answer.tokens]:
            drawn["tokens"] = shaded_answers(shaded)
        if kinds := sorted({one.kind for one in found if one.kind}):
            table = torch.tensor([by_kind(found, kind) for kind in kinds])
            columns = ["accuracy", "skepticism"]
            drawn["kinds"] = heat_map(table, kinds, columns, "by kind of question", "mean")
        return drawn

    def _sample(self, record: Askable, found: Answer) -> dict[str, str]:
        row = {"question": asked(record), "answer": found.text}
        row |= {f"skepticism {name}": f"{value:.3f}" for name, value in found.skepticism.items()}
        word = "willing" if self.willing(found) else "unwilling"
        return {**row, "decision": f"{word} (threshold {self.threshold:.3f})", "gold": gold(record)}

    def _evaluate(self, stage: str, batch: Batch) -> dict[str, Any]:
        self.log_terms(stage, self.losses(batch))
        questions = {key(r): r for r in batch.records if isinstance(r, ASKABLE)}
        new = [record for name, record in questions.items() if name not in self.found]
        room = len(new) if self.max_generated is None else self.max_generated - len(self.found)
        new = new[: max(0, room)]
        if self.everyone_done(not new):
            return {"samples": []}
        # A process without new questions answers along: others may need its share of the weights.
        samples = []
        for record, found in zip(new, self.answer(new or [FILLER]), strict=False):
            correct = right(record, found.text)
            self.found[key(record)] = Found(record.kind, correct, found.skepticism, found.counts)
            samples.append(self._sample(record, found))
            if len(self.shown) < MAX_SHOWN:
                self.shown.append((asked(record), found))
        return {"samples": samples}

    def _log_scores(self, stage: str) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            everyone: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(everyone, self.found)
            self.found = {name: one for part in everyone for name, one in part.items()}
        found = list(self.found.values())
        if not found:
            return
        answers = [one.right for one in found]
        for i, name in enumerate(found[0].skepticism):
            values = [one.skepticism[name] for one in found]
            if i == 0 and stage == "val" and self.tune_eps and not self.trainer.sanity_checking:
                self.tuned_eps.fill_(tuned_threshold(values, answers))
            scores = selective_scores(values, answers, self.threshold if i == 0 else self.eps)
            for score, value in scores.items():
                self.log(f"{stage}/{score}_{name}" if i else f"{stage}/{score}", value)
        self.log(f"{stage}/threshold", self.threshold)
        for kind in sorted({"", *(one.kind for one in found)}):
            suffix = f"_{kind}" if kind else ""
            accuracy, doubt = by_kind(found, kind)
            self.log(f"{stage}/accuracy{suffix}", accuracy, prog_bar=not kind)
            self.log(f"{stage}/skepticism{suffix}", doubt)
        for name in found[0].counts:
            self.log(f"{stage}/{name}", sum(one.counts[name] for one in found) / len(found))


def by_kind(found: Sequence[Found], kind: str) -> tuple[float, float]:
    """Return accuracy and mean of the deciding skepticism of a kind; of all for an empty one."""
    chosen = [one for one in found if one.kind == kind or not kind]
    doubts = [next(iter(one.skepticism.values())) for one in chosen]
    return sum(one.right for one in chosen) / len(chosen), sum(doubts) / len(chosen)
