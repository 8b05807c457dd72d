"""Evaluation of methods that doubt their answers: accuracy of willing answers, risk, figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch

from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.evaluation import EvaluatedModule, Pair
from zoo.methods.lamss.doubt_metrics import DoubtScores, by_kind
from zoo.methods.lamss.metrics import risk_coverage, tuned_threshold
from zoo.methods.lamss.plots import risk_coverage_plot, shaded_answers
from zoo.methods.lamss.questions import ASKABLE, Askable, asked, gold, right
from zoo.plots import heat_map
from zoo.records import Triple
from zoo.sample_preview import shaded

MAX_SHOWN = 12  # answers of a figure
FILLER = Triple("Why?", "", "Because.")  # answered along where another process still answers


@dataclass(frozen=True, slots=True)
class DoubtedAnswer:
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

    @property
    def doubt(self) -> float:
        """The skepticism that decides."""
        return next(iter(self.skepticism.values()))


class SelectiveModule(EvaluatedModule):
    """A module with `losses(batch)` and `answer(records)` that returns `DoubtedAnswer`s.

    Batches may hold other records than questions; those give losses only.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        eps: Answers with a skepticism below it are given willingly.
        tune_eps: Tune the threshold in every validation, starting from `eps`, and keep it for the
            test; it is saved with the weights. Lightning writes a step's checkpoint before that
            step's validation, so the file holds the threshold of the validation before.
        max_generated: Questions to answer in each validation or test; None for all.

    Raises:
        InputError: `eps` is not in [0, 1].
    """

    filler: ClassVar[Triple] = FILLER
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
        super().__init__(backbone, optimizer, max_generated=max_generated)
        if not 0 <= eps <= 1:
            raise InputError(f"model.eps: {eps} is not in [0, 1]")
        self.eps, self.tune_eps = eps, tune_eps
        self.register_buffer("tuned_eps", torch.tensor(float(eps), dtype=torch.float64))
        self.metrics["doubts"] = DoubtScores(eps)

    @property
    def threshold(self) -> float:
        """The skepticism below which an answer is given willingly."""
        return float(self.tuned_eps) if self.tune_eps else self.eps

    def willing(self, answer: DoubtedAnswer) -> bool:
        """Return whether an answer is given."""
        return answer.doubt < self.threshold

    def new_records(self, batch: Batch) -> dict[str, Askable]:
        """Return the questions of a batch that are not answered yet, each once, by name."""
        new = super().new_records(batch)
        return {name: record for name, record in new.items() if isinstance(record, ASKABLE)}

    def sample(self, record: Askable, answer: DoubtedAnswer) -> dict[str, str]:
        """Return the question, the answer, its skepticism, the decision and the gold answer."""
        row = {"question": asked(record), "answer": answer.text}
        row |= {f"skepticism {name}": f"{value:.3f}" for name, value in answer.skepticism.items()}
        word = "willing" if self.willing(answer) else "unwilling"
        return {**row, "decision": f"{word} (threshold {self.threshold:.3f})", "gold": gold(record)}

    def prediction(self, record: Askable, answer: DoubtedAnswer) -> dict[str, Any]:
        """Return answer, skepticism and decision."""
        return {
            "id": record.id,
            "question": asked(record),
            "answer": answer.text,
            "skepticism": answer.skepticism,
            "willing": self.willing(answer),
            "gold": gold(record),
            "right": right(record, answer.text),
        }

    def update_metrics(self, pairs: Sequence[Pair], ids: Sequence[str]) -> None:
        """Add answers to their scores."""
        self.each_metric()["doubts"].update(
            [answer.skepticism for _, answer in pairs],
            [right(record, answer.text) for record, answer in pairs],
            [record.kind for record, _ in pairs],
            [answer.counts for _, answer in pairs],
            ids,
        )

    def prepare_metrics(self, stage: str) -> None:
        """Tune a threshold that is to be tuned, on the answers of a validation."""
        if stage == "val" and self.tune_eps and not self.trainer.sanity_checking:
            pairs = self.answers.values()
            correct = [right(record, answer.text) for record, answer in pairs]
            self.tuned_eps.fill_(tuned_threshold([answer.doubt for _, answer in pairs], correct))
        cast(DoubtScores, self.metrics["doubts"]).threshold = self.threshold

    def figures(self) -> dict[str, Any]:
        """Return risk-coverage curves, answers shaded by doubt, accuracy and skepticism by kind."""
        if not self.answers:
            return {}
        pairs = list(self.answers.values())
        correct = [right(record, answer.text) for record, answer in pairs]
        curves = {
            name: risk_coverage([answer.skepticism[name] for _, answer in pairs], correct)
            for name in pairs[0][1].skepticism
        }
        drawn = {"risk_coverage": risk_coverage_plot(curves)}
        shown = [(asked(record), answer.tokens) for record, answer in pairs[:MAX_SHOWN]]
        if coloured := [(question, tokens) for question, tokens in shown if tokens]:
            drawn["tokens"] = shaded_answers(coloured)
        means = by_kind(
            [record.kind for record, _ in pairs], correct, [answer.doubt for _, answer in pairs]
        )
        if kinds := [kind for kind in means if kind]:
            table = torch.tensor([means[kind] for kind in kinds])
            columns = ["accuracy", "skepticism"]
            drawn["kinds"] = heat_map(table, kinds, columns, "by kind of question", "mean")
        return drawn

    def show(self, records: Sequence[Any], *, prompt: str | None = None) -> list[dict[str, str]]:
        """Return question, answer, each skepticism, the decision, and the gold answer.

        Args:
            records: What to answer.
            prompt: Ask this open question instead.

        Raises:
            InputError: No record is a question.
        """
        questions = [record for record in records if isinstance(record, ASKABLE)]
        if prompt:
            questions = [Triple(prompt, "", "")]
        if not questions:
            raise InputError("data: no question among these records; give a prompt")
        rows = []
        for record, answer in zip(questions, self.answer(questions), strict=True):
            row = self.sample(record, answer)
            if prompt:
                del row["gold"]
            if answer.tokens:
                row["answer"] = shaded(answer.tokens)
            rows.append(row)
        return rows
