"""What is planned with: lengths, weights and groups of all examples, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sizes:
    """Numbers of N examples that hold M weights of heads together.

    Attributes:
        lengths: Tokens of each example, `(N,)`.
        offsets: Where the weights of each example begin, and M, `(N + 1,)`.
        heads: The head of each weight, `(M,)`.
        weights: Supervised weights, float64, `(M,)`.
        groups: The group of each example, two of which never share a batch; None without groups.
    """

    lengths: NDArray[Any]
    offsets: NDArray[Any]
    heads: NDArray[Any]
    weights: NDArray[Any]
    groups: Sequence[str | None] | None = None

    def __len__(self) -> int:
        """Return N."""
        return len(self.lengths)

    @classmethod
    def of(cls, examples: Sequence[Any]) -> Sizes:
        """Measure examples; stored ones bring their own."""
        stored: Sizes | None = getattr(examples, "sizes", None)
        if stored is not None:
            return stored
        weights = [example.head_weights() for example in examples]
        groups = [getattr(example, "group", None) for example in examples]
        return cls(
            lengths=np.array([len(example) for example in examples], dtype=np.int64),
            offsets=np.cumsum([0, *map(len, weights)]),
            heads=np.array([head for each in weights for head in each], dtype=np.int64),
            weights=np.array([w for each in weights for w in each.values()], dtype=np.float64),
            groups=None if all(group is None for group in groups) else groups,
        )

    def learned(self) -> NDArray[Any]:
        """Return the examples from which something is learned, in order."""
        return np.flatnonzero(np.diff(self.offsets))

    def add_to(self, totals: dict[int, float], index: int) -> None:
        """Add the weights of an example to the sum of each head."""
        for place in range(self.offsets[index], self.offsets[index + 1]):
            head = int(self.heads[place])
            totals[head] = totals.get(head, 0.0) + float(self.weights[place])
