"""Which examples each micro-batch of an epoch holds, and what its loss is divided by.

All of it follows from (seed, epoch) and the sizes of the examples. Nothing is kept for each batch
but where it begins in the order, so that ten million examples are planned in seconds.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left, insort
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.sizes import Sizes

NEIGHBOURS = 50  # batches whose examples are sorted by length together
SEARCH = 20  # how many batches ahead to look for an example of another group
Normalizers = dict[int, float]


class EpochPlan:
    """The micro-batches of one rank in an epoch; `plan[i]` gives (indices, normalisers) of one.

    Args:
        sizes: Sizes of all examples.
        order: The examples of the epoch in their order.
        starts: Where in the order each micro-batch of all ranks begins.
        accumulate: Micro-batches per optimiser step and rank.
        rank: This process.
        world_size: Number of processes.
        limit: Micro-batches of a rank that are run; the step that it cuts is a mean as well.
    """

    def __init__(
        self,
        sizes: Sizes,
        order: NDArray[Any],
        starts: NDArray[Any],
        *,
        accumulate: int,
        rank: int,
        world_size: int,
        limit: int | None = None,
    ) -> None:
        self.sizes, self.order = sizes, order
        self.bounds = np.append(starts, len(order))
        self.rank, self.world_size = rank, world_size
        self.step = accumulate * world_size
        batches = len(starts)
        end = batches if limit is None else min(batches, limit * world_size)
        windows = [*range(0, end, self.step), *range(end, batches, self.step), batches]
        self.windows = np.array(windows)  # where each optimiser step begins
        # Every rank runs the same number of batches.
        self.before = np.append(0, np.cumsum(-(-np.diff(self.windows) // world_size)))

    def __len__(self) -> int:
        """Return the number of micro-batches of this rank."""
        return int(self.before[-1])

    def __getitem__(self, place: int) -> tuple[list[int], Normalizers]:
        """Return the examples of a micro-batch, and the normaliser of each head."""
        window = int(np.searchsorted(self.before, place, side="right")) - 1
        first, following = (int(batch) for batch in self.windows[window : window + 2])
        totals: Normalizers = {}
        for index in self.order[self.bounds[first] : self.bounds[following]]:
            self.sizes.add_to(totals, index)
        mine = first + self.rank + (place - int(self.before[window])) * self.world_size
        if mine >= following:  # another rank's batch again; an infinite normaliser counts nothing
            return self._batch(first), dict.fromkeys(totals, float("inf"))
        # Lightning divides by `accumulate`, data parallelism by `world_size`.
        return self._batch(mine), {head: total / self.step for head, total in totals.items()}

    def largest(self) -> int:
        """Return the place of this rank's micro-batch with the most tokens."""
        tokens = np.add.reduceat(self.sizes.lengths[self.order], self.bounds[:-1])
        places = np.arange(len(self))
        windows = np.searchsorted(self.before, places, side="right") - 1
        mine = self.rank + (places - self.before[windows]) * self.world_size
        batches = np.minimum(self.windows[windows] + mine, len(tokens) - 1)
        return int(np.argmax(tokens[batches]))

    def _batch(self, batch: int) -> list[int]:
        indices: list[int] = self.order[self.bounds[batch] : self.bounds[batch + 1]].tolist()
        return indices


def shuffled(indices: NDArray[Any], seed: str) -> NDArray[Any]:
    """Return the indices in the order that a seed gives, as `random.shuffle` would."""
    order = array("q", range(len(indices)))
    random.Random(seed).shuffle(order)
    return indices[np.frombuffer(order, dtype=np.int64)]


def micro_batches(
    sizes: Sizes, order: NDArray[Any], batch_size: int, max_tokens: int | None, *, grouped: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Divide examples into micro-batches.

    Args:
        sizes: Sizes of all examples.
        order: Examples in the order in which they are wanted.
        batch_size: Examples per micro-batch at most.
        max_tokens: Tokens per micro-batch at most, unless an example alone has more.
        grouped: No two examples of a micro-batch may be of one group.

    Returns:
        The order, changed where groups ask for it, and where each micro-batch begins.
    """
    if grouped and sizes.groups is not None:
        return _apart(sizes, order, batch_size, max_tokens)
    if max_tokens is None:
        return order, np.arange(0, len(order), batch_size)
    tokens = np.append(0, np.cumsum(sizes.lengths[order]))
    starts, start = array("q"), 0
    while start < len(order):
        starts.append(start)
        fitting = int(np.searchsorted(tokens, tokens[start] + max_tokens, side="right")) - 1
        start = max(start + 1, min(start + batch_size, fitting))
    return order, np.frombuffer(starts, dtype=np.int64)


def _apart(
    sizes: Sizes, order: NDArray[Any], batch_size: int, max_tokens: int | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Divide examples so that those of one group are apart; one that waits is next in line."""
    assert sizes.groups is not None
    taken: list[int] = []
    starts: list[int] = []
    waiting = deque(order.tolist())
    while waiting:
        starts.append(len(taken))
        groups: set[str] = set()
        tokens, limit = 0, SEARCH * batch_size
        later: list[int] = []
        while waiting and len(taken) - starts[-1] < batch_size and len(later) < limit:
            index = waiting.popleft()
            length, group = int(sizes.lengths[index]), sizes.groups[index]
            full = max_tokens is not None and tokens + length > max_tokens
            if full and len(taken) > starts[-1]:
                waiting.appendleft(index)
                break
            if group is not None and group in groups:
                later.append(index)
                continue
            taken.append(index)
            tokens += length
            if group is not None:
                groups.add(group)
        waiting.extendleft(reversed(later))
    return np.array(taken, dtype=np.int64), np.array(starts, dtype=np.int64)


def by_length(
    sizes: Sizes, order: NDArray[Any], batch_size: int, max_tokens: int | None, seed: str
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Divide examples into micro-batches of like lengths, or that fill `max_tokens`.

    Each `NEIGHBOURS` batches of the order are sorted by length. Without `max_tokens` a batch is the
    next `batch_size` of them. With it, each example, the longest first, goes into the fullest batch
    that still has room for it (best-fit decreasing). The order of the batches is shuffled.

    Args:
        sizes: Sizes of all examples.
        order: Examples in a shuffled order.
        batch_size: Examples per micro-batch at most.
        max_tokens: Tokens per micro-batch at most, unless an example alone has more.
        seed: Seed of the order of the batches.
    """
    rng, batches = random.Random(seed), []
    for start in range(0, len(order), NEIGHBOURS * batch_size):
        part = order[start : start + NEIGHBOURS * batch_size]
        part = part[np.argsort(-sizes.lengths[part], kind="stable")]
        if max_tokens is None:
            made = [part[i : i + batch_size].tolist() for i in range(0, len(part), batch_size)]
        else:
            made = _best_fit(part.tolist(), sizes.lengths[part].tolist(), batch_size, max_tokens)
        rng.shuffle(made)
        batches += made
    starts = np.cumsum([0, *map(len, batches[:-1])])
    return np.array([index for batch in batches for index in batch], dtype=np.int64), starts


def _best_fit(
    indices: list[int], lengths: list[int], batch_size: int, max_tokens: int
) -> list[list[int]]:
    """Return batches; examples come with their lengths, the longest first."""
    batches: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (tokens left, number of the batch), sorted
    for index, length in zip(indices, lengths, strict=True):
        place = bisect_left(rooms, (length, -1))
        if place < len(rooms):
            room, number = rooms.pop(place)
            batches[number].append(index)
        else:
            room, number = max_tokens, len(batches)
            batches.append([index])
        if room > length and len(batches[number]) < batch_size:
            insort(rooms, (room - length, number))
    return batches
