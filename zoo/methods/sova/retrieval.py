"""What the agent retrieves: instructions by scored reports, and principles by plain similarity.

Without a folder the index is made in memory of the curated principles alone, with no values, so it
has few reports and few links between them. A folder is what `python -m zoo graph build` writes.

Shapes: P principles, S situations, D width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.decoding.prefix_cache import run_packed
from zoo.errors import InputError
from zoo.markup import token_ids
from zoo.methods.sova.communities import communities, finest
from zoo.methods.sova.graph import build_graph
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.instruct import How, MapScore
from zoo.methods.sova.instruction import Instruction
from zoo.methods.sova.json_answer import ACTION_NAME
from zoo.methods.sova.principles import Principle, corpus, quoted
from zoo.methods.sova.reports import Report, template_reports
from zoo.methods.sova.sentence_encoder import Encoder, SentenceEncoder


@dataclass
class ValueRetrieval:
    """Instructions and principles for situations, of which nothing but the text is seen.

    Attributes:
        lm: The agent's language model, which scores the reports.
        tokenizer: Its tokenizer.
        index: An index on disk; None for the curated principles alone.
        encoder: Gives vectors of texts; None for the mean of the agent's own states.
        how: How reports are scored, see `MapScore`.
        tau: Of the kept instructions.
        top: Most of them.
        prefilter: Reports to score for each situation, the closest ones; None for all.
        window: Limit in tokens of a report with a situation and the answer.
        counts: What became of the instructions since they were logged.
    """

    lm: Any
    tokenizer: Any
    index: ValueIndex | None
    encoder: Encoder | None
    how: How
    tau: float
    top: int
    prefilter: int | None
    window: int
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.index is None:
            self.principles = corpus()
            graph = build_graph({}, self.principles, {})
            found = finest(communities(graph))
            self.reports = template_reports(graph, found, self.principles)
        else:
            self.principles, self.reports = self.index.principles, self.index.reports
        self.maps: dict[str, MapScore] = {}
        self.vectors_PD: Tensor | None = None
        self.rules_PD: Tensor | None = None

    def instructions(self, situations: Sequence[str], theory: str) -> list[list[Instruction]]:
        """Return the kept instructions of a theory for each situation, best first.

        Raises:
            InputError: There is no report of the theory, or no vectors for `prefilter`.
        """
        if theory not in self.maps:
            self.maps[theory] = MapScore(
                self.lm,
                self.tokenizer,
                self.reports_of(theory),
                how=self.how,
                tau=self.tau,
                top=self.top,
                window=self.window,
            )
        near = None
        if self.index is not None and self.encoder is not None:
            situations_SD = self.index.embed(situations, self.encoder)
            fits = self.index.fits(situations_SD)
            if self.prefilter is not None:
                near = self.index.near(theory, situations_SD, self.prefilter)
        else:
            fits = self._fits(situations)
        found = self.maps[theory](situations, near, fits)
        self.counts += found.counts
        return found.kept

    def reports_of(self, theory: str) -> list[Report]:
        """Return the reports of a theory.

        Raises:
            InputError: There are none.
        """
        found = [report for report in self.reports if report.theory == theory]
        if not found:
            where = "the index" if self.index else "the curated principles without values"
            raise InputError(
                f"model.theory: {where} gives no report of {theory!r}; set model.index to a folder "
                f"that `python -m zoo graph build` made of values with labels of this theory"
            )
        return found

    def principles_near(self, situations: Sequence[str], budget: int) -> list[list[str]]:
        """Return the principles closest to each situation by cosine, while they fit.

        One that names an action is never among them; `counts` says how many are left out so. A
        published text that has labels of several theories is one text here.

        Args:
            situations: Texts.
            budget: Tokens of them all; the first one that does not fit ends the list.
        """
        every = list(dict.fromkeys(as_chunk(principle) for principle in self.principles))
        texts = [text for text in every if not ACTION_NAME.search(text)]
        if self.vectors_PD is None:
            self.counts["principles that name an action"] += len(every) - len(texts)
            self.vectors_PD = self._embed(texts)
        similar_SP = self._embed(situations) @ self.vectors_PD.T
        order = torch.sort(similar_SP, dim=1, descending=True, stable=True).indices.tolist()
        sizes = [len(token_ids(self.tokenizer, text)) for text in texts]
        return [_fitting(row, texts, sizes, budget) for row in order]

    def _fits(self, situations: Sequence[str]) -> list[dict[str, float]]:
        """Return for each situation the cosine of the advice of each curated principle, by id."""
        curated = [principle for principle in self.principles if principle.curated]
        if self.rules_PD is None:
            self.rules_PD = self._embed([principle.rule for principle in curated])
        similar_SP = self._embed(situations) @ self.rules_PD.T
        names = [principle.id for principle in curated]
        return [dict(zip(names, row, strict=True)) for row in similar_SP.tolist()]

    def _embed(self, texts: Sequence[str]) -> Tensor:
        if self.encoder is not None:
            return self.encoder.embed(texts)
        ids = [token_ids(self.tokenizer, text) for text in texts]
        states = self.lm.model.norm(run_packed(self.lm, ids, [0] * len(ids))).float()
        means = [part.mean(0) for part in states.split([len(row) for row in ids])]
        return F.normalize(torch.stack(means), dim=1).cpu()


def as_chunk(principle: Principle) -> str:
    """Return a principle as plain retrieval pastes it: its advice, or a published text quoted."""
    return principle.rule if principle.curated else quoted(principle.statement)


def _fitting(
    order: Sequence[int], texts: Sequence[str], sizes: Sequence[int], budget: int
) -> list[str]:
    chosen: list[str] = []
    left = budget
    for place in order:
        left -= sizes[place]
        if left < 0:
            break
        chosen.append(texts[place])
    return chosen


def load_encoder(name: str | None) -> Encoder | None:
    """Return the sentence encoder of a name; None for none."""
    return None if name is None else SentenceEncoder.load(name)
