"""A data loader whose place in the data survives a crash, and whose batches know their step.

Order depends on (seed, epoch) alone. The examples of one optimiser step are known before it starts,
so every micro-batch carries the normaliser that makes the mean over accumulation steps and ranks
exact, without a collective.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from zoo.errors import check_counts

SEARCH = 20  # how many batches ahead to look for an example of another group
Normalizers = dict[int, float]
Collate = Callable[[Sequence[Any], Normalizers], Any]


class StepLoader:
    """Iterate over micro-batches; `state_dict` says where the next one is.

    It is no `torch.utils.data.DataLoader`, so Lightning does not replace its sampler: ranks are
    divided here. Lightning saves and restores the state with its checkpoints.

    Args:
        examples: Encoded examples with `__len__` and `head_weights()`. In a shuffled loader two
            examples with the same `group` (if they have one) never share a micro-batch.
        collate: Joins examples into a batch, given the normaliser of each head.
        batch_size: Examples per micro-batch.
        max_tokens: Close a micro-batch before it exceeds this many tokens; None for no limit.
        shuffle: New order every epoch.
        seed: Seed of the order.
        accumulate: Micro-batches per optimiser step and rank.
        rank: This process.
        world_size: Number of processes.
        num_workers: Processes that collate; 0 collates here.
        pin_memory: Put batches in page-locked memory.
    """

    def __init__(
        self,
        examples: Sequence[Any],
        collate: Collate,
        *,
        batch_size: int,
        max_tokens: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        check_counts("", {"batch_size": batch_size, "max_tokens": max_tokens})
        self.examples, self.collate = examples, collate
        self.batch_size, self.max_tokens = batch_size, max_tokens
        self.shuffle, self.seed = shuffle, seed
        self.accumulate, self.rank, self.world_size = accumulate, rank, world_size
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.epoch, self.position, self._resumed = 0, 0, False
        self.limit: int | None = None  # see `limit_epochs`
        self._plan: tuple[int, list[tuple[list[int], Normalizers]]] | None = None

    def __len__(self) -> int:
        """Number of micro-batches of this rank in the current epoch."""
        return len(self._epoch_plan())

    def __iter__(self) -> Iterator[Any]:
        """Yield the rest of the current epoch; the place moves on before each batch is yielded."""
        if not self._resumed or not self.shuffle:
            self.epoch += self.shuffle and self.position > 0  # the last epoch was cut short
            self.position = 0
        elif self.position >= self._taken(len(self)):  # saved under a higher limit
            self.epoch, self.position = self.epoch + 1, 0
        self._resumed = False
        plan = self._epoch_plan()
        end = self._taken(len(plan))
        source = _Plan(self.examples, plan[self.position : end], self.collate)
        batches = DataLoader(
            source,
            batch_size=None,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            persistent_workers=False,
            generator=torch.Generator(),  # the global one is the model's: a resumed run must match
        )
        for batch in batches:
            self.position += 1
            if self.position == end:
                self.epoch, self.position = self.epoch + 1, 0
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of micro-batches consumed in it."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where `state_dict` was taken."""
        self.epoch, self.position = state["epoch"], state["position"]
        self._resumed = True

    def limit_epochs(self, limit: float) -> None:
        """Take fewer micro-batches of every epoch, so that a step that is cut is still a mean.

        Lightning counts the batches of the first epoch and takes no more of any; `len` goes on
        counting all of them, because Lightning applies the limit to it.

        Args:
            limit: Micro-batches of this rank, or a share of those of the current epoch.
        """
        batches = len(self)
        self.limit = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
        if self.limit < batches:
            self._plan = None

    def _taken(self, batches: int) -> int:
        return batches if self.limit is None else min(batches, self.limit)

    def _epoch_plan(self) -> list[tuple[list[int], Normalizers]]:
        if self._plan is None or self._plan[0] != self.epoch:
            self._plan = (self.epoch, self._make_plan())
        return self._plan[1]

    def _make_plan(self) -> list[tuple[list[int], Normalizers]]:
        order = list(range(len(self.examples)))
        if self.shuffle:
            random.Random(f"{self.seed}-{self.epoch}").shuffle(order)
        micro = self._micro_batches(order)
        step = self.accumulate * self.world_size
        end = self.world_size * self._taken(-(-len(micro) // self.world_size))
        starts = [*range(0, min(end, len(micro)), step), *range(end, len(micro), step)]
        plan = []
        for start, following in pairwise([*starts, len(micro)]):
            window = micro[start : min(start + step, following)]
            totals: Normalizers = {}
            for indices in window:
                for index in indices:
                    for head, weight in self.examples[index].head_weights().items():
                        totals[head] = totals.get(head, 0.0) + weight
            # Lightning divides by `accumulate`, data parallelism by `world_size`.
            share = {head: total / step for head, total in totals.items()}
            mine = window[self.rank :: self.world_size]
            plan += [(indices, share) for indices in mine]
            if len(mine) < -(-len(window) // self.world_size):
                # Every rank runs the same number of batches; an infinite normaliser counts nothing.
                plan.append((window[0], dict.fromkeys(totals, float("inf"))))
        return plan

    def _micro_batches(self, order: list[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        waiting = deque(order)
        while waiting:
            batch: list[int] = []
            groups: set[str | None] = set()
            tokens, limit = 0, SEARCH * self.batch_size
            later: list[int] = []  # of a group that the batch has already: first in line next
            while waiting and len(batch) < self.batch_size and len(later) < limit:
                index = waiting.popleft()
                length = len(self.examples[index])
                group = getattr(self.examples[index], "group", None) if self.shuffle else None
                if batch and self.max_tokens is not None and tokens + length > self.max_tokens:
                    waiting.appendleft(index)
                    break
                if group is not None and group in groups:
                    later.append(index)
                    continue
                batch.append(index)
                groups.add(group)
                tokens += length
            waiting.extendleft(reversed(later))
            batches.append(batch)
        return batches


class _Plan(Dataset[Any]):
    def __init__(
        self, examples: Sequence[Any], plan: list[tuple[list[int], Normalizers]], collate: Collate
    ) -> None:
        self.examples, self.plan, self.collate = examples, plan, collate

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> Any:
        indices, normalizers = self.plan[index]
        return self.collate([self.examples[i] for i in indices], normalizers)
