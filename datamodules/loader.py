"""A data loader whose place in the data survives a crash, and whose batches know their step.

Order depends on (seed, epoch) alone. The examples of one optimiser step are known before it starts,
so every micro-batch carries the normaliser that makes the mean over accumulation steps and ranks
exact, without a collective.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.epoch_plan import EpochPlan, Normalizers, by_length, micro_batches, shuffled
from datamodules.sizes import Sizes
from zoo.errors import InputError, check_counts

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
        shuffle: New order every epoch, without the examples from which nothing is learned.
        group_by_length: Put examples of like lengths together; with `max_tokens`, those that fill
            it. In a shuffled loader.
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
        group_by_length: bool = False,
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
        self.shuffle, self.group_by_length, self.seed = shuffle, group_by_length, seed
        self.accumulate, self.rank, self.world_size = accumulate, rank, world_size
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.epoch, self.position, self._resumed = 0, 0, False
        self.limit: int | None = None  # see `limit_epochs`
        self.sizes = Sizes.of(examples)
        if shuffle and group_by_length and self.sizes.groups is not None:
            raise InputError(
                "data.group_by_length: pairs of one group must stay apart; leave it out"
            )
        self._plan: tuple[int, EpochPlan] | None = None

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
        source = _Batches(self.examples, plan, self.position, end, self.collate)
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

    def largest(self) -> Any:
        """Return this rank's micro-batch of the current epoch that has the most tokens."""
        plan = self._epoch_plan()
        return _Batches(self.examples, plan, plan.largest(), len(plan), self.collate)[0]

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

    def _epoch_plan(self) -> EpochPlan:
        if self._plan is None or self._plan[0] != self.epoch:
            order = np.arange(len(self.examples))
            if self.shuffle:  # what nothing is learned from costs time only
                order = shuffled(self.sizes.learned(), f"{self.seed}-{self.epoch}")
            given = (self.sizes, order, self.batch_size, self.max_tokens)
            if self.shuffle and self.group_by_length:
                order, starts = by_length(*given, seed=f"{self.seed}-{self.epoch}-batches")
            else:
                order, starts = micro_batches(*given, grouped=self.shuffle)
            plan = EpochPlan(
                self.sizes,
                order,
                starts,
                accumulate=self.accumulate,
                rank=self.rank,
                world_size=self.world_size,
                limit=self.limit,
            )
            self._plan = (self.epoch, plan)
        return self._plan[1]


class _Batches(Dataset[Any]):
    """The micro-batches of a plan from `start` to `end`."""

    def __init__(
        self, examples: Sequence[Any], plan: EpochPlan, start: int, end: int, collate: Collate
    ) -> None:
        self.examples, self.plan, self.collate = examples, plan, collate
        self.start, self.end = start, end

    def __len__(self) -> int:
        return self.end - self.start

    def __getitem__(self, index: int) -> Any:
        indices, normalizers = self.plan[self.start + index]
        return self.collate([self.examples[i] for i in indices], normalizers)
