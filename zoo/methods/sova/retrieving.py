"""Equations (1) and (2) of SoVA as parts of a module: what is retrieved from, and what is kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from zoo import parallel
from zoo.cache import quick_weights_digest
from zoo.errors import InputError, check_counts
from zoo.methods.sova.asking import told
from zoo.methods.sova.community_map import community_map
from zoo.methods.sova.encoder import asked_text
from zoo.methods.sova.evaluation import Asked, ChoosingModule
from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.instruct import How
from zoo.methods.sova.instruction import Instruction
from zoo.methods.sova.kinds import PASTING, WRONG, Kind, Theory
from zoo.methods.sova.retrieval import ValueRetrieval, load_encoder
from zoo.parallel import is_sharded
from zoo.records import Dilemma


class RetrievingModule(ChoosingModule):
    """A module with instructions for records; `retrieval` is made anew when it has to be.

    Args:
        backbone: Which language model to build on.
        optimizer: AdamW and its schedule.
        max_generated: Dilemmas to decide in each validation or test; None for all.
    """

    kind: Kind
    theory: Theory
    rule: str
    index: str | None
    encoder_name: str | None
    prefilter: int | None
    map_by: How
    threshold: float
    top_n: int
    max_length: int
    chunk_tokens: int

    def __init__(self, backbone: Any, optimizer: Any, *, max_generated: int | None) -> None:
        super().__init__(backbone, optimizer, max_generated=max_generated)
        self._retrieval: ValueRetrieval | None = None
        self._made_with: tuple[Any, ...] = ()

    def check_retrieval(self) -> None:
        """Check the threshold, the counts, and that `prefilter` has what it needs.

        Raises:
            InputError: They do not fit.
        """
        if not 0 <= self.threshold <= 100:
            raise InputError(f"model.threshold: {self.threshold} is not in 0..100")
        check_counts("model", {"top_n": self.top_n, "prefilter": self.prefilter})
        if self.prefilter is not None and not (self.index and self.encoder_name):
            raise InputError("model.prefilter: needs model.index, and the model.encoder of that")

    @property
    def retrieval(self) -> ValueRetrieval:
        """What instructions are retrieved from: opened at the first use, and again after changes.

        Its scores and vectors are those of some settings and weights; with others it is made anew.
        Sharded weights are looked at by no process alone; training them calls `forget_retrieval`.

        Raises:
            InputError: The index cannot be opened.
        """
        weights = "" if is_sharded(self) else quick_weights_digest(self.lm.parameters())
        settings = (self.index, self._sentence_encoder(), self.prefilter)
        made_with = (weights, *settings, self.map_by, self.threshold, self.top_n, self.max_length)
        if self._retrieval is None or made_with != self._made_with:
            self._retrieval, self._made_with = self.make_retrieval(), made_with
        return self._retrieval

    def make_retrieval(self) -> ValueRetrieval:
        """Return a new retrieval of these settings and weights; to be replaced by other ones."""
        return ValueRetrieval(
            self.lm,
            self.tokenizer,
            ValueIndex.open(self.index) if self.index else None,
            load_encoder(self._sentence_encoder()),
            how=self.map_by,
            tau=self.threshold,
            top=self.top_n,
            prefilter=self.prefilter,
            window=self.max_length,
        )

    def forget_retrieval(self) -> None:
        """Make the retrieval anew at its next use."""
        self._retrieval = None

    def kept_instructions(self, records: Sequence[Asked]) -> list[list[Instruction]]:
        """Return the instructions in each prompt; sharded weights score no report."""
        situations = [asked_text(record) for record in records]
        theory = WRONG[self.theory] if self.kind == "wrong_theory" else self.theory
        if self.kind == "told":
            return [told(r, self.rule) if isinstance(r, Dilemma) else [] for r in records]
        if self.kind not in ("sova", "shuffled", "wrong_theory"):
            return [[] for _ in records]
        if self.kind == "shuffled":
            situations = [self.encoder().donor(text) for text in situations]
        if is_sharded(self):  # each process scores reports as often as its own dilemmas need
            raise InputError(f"trainer.strategy: model.kind {self.kind} scores reports: use ddp")
        return self.retrieval.instructions(situations, theory)

    def given_instructions(
        self, given: Sequence[Sequence[Instruction]], records: int
    ) -> list[list[Instruction]]:
        """Return instructions that a caller gives, a list for each record.

        Raises:
            InputError: There are more or fewer, or prompts of this kind hold none.
        """
        if len(given) != records:
            raise InputError(f"instructions: {len(given)} lists for {records} records")
        if self.kind in PASTING and any(given):
            raise InputError(f"model.kind: {self.kind} pastes principles, it takes no instructions")
        return [list(items) for items in given]

    def near_principles(self, situations: Sequence[str]) -> list[list[str]]:
        """Return the texts that plain retrieval pastes for each situation; none of other kinds."""
        if self.kind not in PASTING:
            return [[] for _ in situations]
        return self.retrieval.principles_near(situations, self.chunk_tokens)

    def log_scores(self, stage: str) -> None:
        """Log, beside the scores, what became of the instructions: kept, or why they were not."""
        super().log_scores(stage)
        mine = self._retrieval.counts if self._retrieval else Counter()
        found = sum(parallel.gathered(mine), Counter[str]())
        for reason, count in sorted(found.items()):
            name = re.sub(r"\W+", "_", reason.lower()).strip("_")
            self.log(f"{stage}/instructions/{name}", float(count))
        mine.clear()

    def figures(self) -> dict[str, Any]:
        """Return the ratios by label, and a map of the index that was retrieved from."""
        index = self._retrieval.index if self._retrieval else None
        return super().figures() | ({"communities": community_map(index)} if index else {})

    def _sentence_encoder(self) -> str | None:
        """Return the encoder's name; None for the agent's own states, which `retriever` learns."""
        return None if self.kind == "retriever" else self.encoder_name
