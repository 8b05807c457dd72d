"""Encoder of pairs whose states are compared: the prompts of LaHoRe, no answers.

Every head lies in a slot of one width, padded on its left, so that a document's last token has the
same place in all and every query starts at the same position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from zoo.encoding import sum_head_weights
from zoo.methods.lahore.encoder import PAIR, Pair, RelevanceEncoder
from zoo.records import Ranking
from zoo.sample_preview import DIM, PLAIN

STATES = 0  # the "head" that counts query positions


@dataclass(frozen=True, slots=True)
class StatePair(Pair):
    """A pair whose query positions are all learned."""

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.head) + len(self.tail)

    def head_weights(self) -> dict[int, float]:
        """Return the number of query positions, and one pair."""
        return {STATES: float(len(self.tail)), PAIR: 1.0}


@dataclass(slots=True)
class StateBatch:
    """Pairs of a micro-batch; their tensors are made where their states are.

    Attributes:
        pairs: The pairs.
        normalizers: See `zoo.encoding.Batch`.
    """

    pairs: list[StatePair]
    normalizers: dict[int, float]

    def to(self, *_: Any, **__: Any) -> StateBatch:
        """Return itself: there are no tensors to move."""
        return self

    @property
    def records(self) -> list[Ranking | None]:
        """The records, each on its first pair."""
        return [pair.record for pair in self.pairs]

    @property
    def num_tokens(self) -> int:
        """Number of tokens."""
        return sum(map(len, self.pairs))

    def counts(self) -> dict[str, int]:
        """Return the amounts of work that throughput is reported in."""
        return {"tokens": self.num_tokens, "pairs": len(self.pairs)}


@dataclass
class StateEncoder(RelevanceEncoder):
    """Encoder of ranked records into pairs of states; the document comes first."""

    pair_type: ClassVar[type[Pair]] = StatePair

    def __call__(self, record: Ranking) -> list[StatePair]:  # type: ignore[override]
        """Return the pairs of a record; training examples are stored by this type."""
        return cast(list[StatePair], super().__call__(record))

    @property
    def slot(self) -> int:
        """Width of a head's slot in tokens: the text before a document, and the document's."""
        return len(self.opening) + self.document_tokens

    def collate(self, pairs: Sequence[Any], normalizers: dict[int, float]) -> StateBatch:  # type: ignore[override]
        """Join pairs into a batch."""
        return StateBatch(list(pairs), normalizers or sum_head_weights(pairs))

    def preview(self, pair: Pair) -> list[str]:
        """Return a pair's prompt with its query part, whose states are learned, undimmed."""
        head, tail = (self.tokenizer.decode(list(half)) for half in (pair.head, pair.tail))
        return [f"sample      {len(pair.tail)} positions learned", f"{DIM}{head}{PLAIN}{tail}"]
