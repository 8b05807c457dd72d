"""An upper mark for MeGan with two questions: constant betas for each of them, no hypernetwork."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

import zoo
from benchmarks.megan.settings import Records
from zoo.methods.megan.gate_function import make_delta
from zoo.methods.megan.gated_swiglu import StaticGating

QUESTIONS = ("domain", "intent")  # conditions of this row; their first tokens differ


class QuestionGating(StaticGating):
    """Betas of the sequences of a batch, `(layers, S, 1, F)`."""

    def mean_betas(self, held: Tensor) -> Tensor:
        """Return the mean beta of every block, `(S, layers)`."""
        return self.beta_LF.detach().mean((2, 3)).transpose(0, 1)


class QuestionBetas(zoo.MeGan):
    """A free beta per question, block and channel, in the method's range (0.5, 1.5).

    If these do not steer a frozen model, a hypernetwork that read its condition without a mistake
    would hardly do better: only betas that also differ from token to token could.
    """

    bounded = True
    beta: nn.Parameter

    def install(self) -> None:
        """Give both questions betas that start at 1."""
        super().install()
        self.beta = nn.Parameter(self.beta.new_zeros(len(QUESTIONS), *self.beta.shape))

    def gating(self, told: Any, batch: Any = None) -> QuestionGating:
        """Return the betas of each sequence's question."""
        intent = self.encoder().ids(QUESTIONS[1])[0]
        change = self.beta[(told.ids[:, 0] == intent).long()]
        change = make_delta(change, None) if self.bounded else change
        return QuestionGating((1 + change).transpose(0, 1)[:, :, None])


class UnboundedBetas(QuestionBetas):
    """The same with any beta, which is not the method's."""

    bounded = False


def by_question(records: Records) -> Records:
    """Return records whose condition is the name of their question."""
    return [replace(record, condition=record.task.split()[1]) for record in records]
