"""Which source the next block of a mixture comes from.

Blocks are numbered over all processes and workers, in the order in which they are trained on. As
they have one length, shares of blocks are shares of tokens.

- `exact`: error diffusion on consumed tokens. Block n comes from the source that is furthest
  behind its share: the largest s_i (n + 1) - c_i + u_i, where s_i is the share of source i, c_i
  the number of its blocks so far, and u_i a seeded starting phase below 1/2. In a window of any
  length a source is off by less than two blocks.
- `random`: block n comes from source i with probability s_i, drawn from (seed, n).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Literal

Order = Literal["exact", "random"]


class MixtureSchedule:
    """The sources of blocks 0, 1, 2, ...

    Args:
        shares: Share of each source; they add up to 1.
        order: `exact` or `random`, see above.
        seed: Seed of the phases, or of the draws.
        counts: Blocks of each source so far; None for none.
    """

    def __init__(
        self,
        shares: Mapping[str, float],
        *,
        order: Order = "exact",
        seed: int = 0,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        self.shares, self.order, self.seed = dict(shares), order, seed
        self.counts = {name: (counts or {}).get(name, 0) for name in shares}
        draw = random.Random(f"{seed}-phases")
        self._phases = {name: draw.random() / 2 for name in shares}

    @property
    def position(self) -> int:
        """Number of the next block."""
        return sum(self.counts.values())

    def __next__(self) -> str:
        """Return the source of the next block."""
        number = self.position
        if self.order == "random":
            draw = random.Random(f"{self.seed}-{number}")
            (name,) = draw.choices([*self.shares], [*self.shares.values()])
        else:
            behind = {
                source: share * (number + 1) - self.counts[source] + self._phases[source]
                for source, share in self.shares.items()
                if share > 0
            }
            name = max(behind, key=behind.__getitem__)
        self.counts[name] += 1
        return name
