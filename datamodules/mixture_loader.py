"""A loader of blocks from several streamed sources, whose place survives a crash.

Every process has `LANES` readers; reader l of rank r makes the micro-batches l, l + LANES, ... of
that rank, and gets its own part of each source. So batches do not depend on the number of workers,
which is 0 or a divisor of `LANES`. Each batch comes with the place of its reader behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import distributed
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from datamodules.mixture_schedule import MixtureSchedule, Order
from datamodules.text_shards import TextShards
from datamodules.token_blocks import TokenBlocks
from zoo.errors import InputError, nearest

LANES = 4
State = dict[str, Any]


class MixtureLoader:
    """Iterate over micro-batches of blocks; `state_dict` says where the next one is.

    It is no `torch.utils.data.DataLoader`, so Lightning does not replace its sampler: ranks are
    divided here. An epoch is as many micro-batches as `num_tokens` fill; the next one goes on
    where it ended.

    Args:
        sources: The texts of each source.
        shares: Share of tokens of each source; they add up to 1.
        ids: Returns the token ids of a text, with its end.
        collate: Joins blocks, given as token ids, into a batch.
        length: Targets of a block.
        batch_size: Blocks per micro-batch.
        num_tokens: Tokens of an epoch over all processes; rounded down to whole micro-batches.
        order: See `MixtureSchedule`.
        max_epochs: How often a source may be read.
        seed: Seed of the schedule.
        rank: This process.
        world_size: Number of processes.
        num_workers: Processes that read; 0 reads here.
        accumulate: Micro-batches per optimiser step and rank.
    """

    def __init__(
        self,
        sources: Mapping[str, TextShards],
        shares: Mapping[str, float],
        ids: Callable[[str], list[int]],
        collate: Callable[[Sequence[list[int]]], Any],
        *,
        length: int,
        batch_size: int,
        num_tokens: int,
        order: Order = "exact",
        max_epochs: int = 4,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        accumulate: int = 1,
    ) -> None:
        if num_workers and LANES % num_workers:
            raise InputError(f"data.num_workers: {num_workers} is not 0, 1, 2 or {LANES}")
        self.sources, self.shares, self.ids, self.collate = sources, shares, ids, collate
        self.length, self.batch_size, self.num_tokens = length, batch_size, num_tokens
        self.order, self.max_epochs, self.seed = order, max_epochs, seed
        self.rank, self.world_size, self.num_workers = rank, world_size, num_workers
        self.accumulate = accumulate
        self.batches = num_tokens // (length * batch_size * world_size)
        if not self.batches:
            raise InputError(
                f"data.num_tokens: {num_tokens} is less than a micro-batch of every process, "
                f"{length} x {batch_size} x {world_size} tokens"
            )
        self.position = 0  # micro-batches of this rank, over all epochs
        self.lanes: list[State | None] = [None] * LANES
        self.limit: int | None = None
        self._resumed = False
        self._step_start: State | None = None

    def __len__(self) -> int:
        """Number of micro-batches of this rank in an epoch."""
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        """Yield the rest of the current epoch; the place moves on before each batch is yielded."""
        per_epoch = self.batches if self.limit is None else min(self.limit, self.batches)
        done = self.position % per_epoch if self._resumed else 0
        self._resumed = False
        source = _Lanes(self, self.position, self.position + per_epoch - done)
        batches = DataLoader(
            source,
            batch_size=None,
            num_workers=self.num_workers,
            generator=torch.Generator(),  # the global one is the model's: a resumed run must match
        )
        for lane, state, batch in batches:
            if done % self.accumulate == 0:
                self._step_start = self._place()
            done += 1
            self.position += 1
            self.lanes[lane] = state
            yield batch

    def state_dict(self) -> State:
        """Return the number of micro-batches consumed, and the place of each reader by process.

        `step_start` is the same where the last optimiser step began. All processes call it
        together: one of them writes what all of them need.
        """
        now, start = self._place(), self._step_start or self._place()
        given = self._given()
        return {
            **{**now, "lanes": self._of_all(now["lanes"]), "given": given},
            "step_start": {**start, "lanes": self._of_all(start["lanes"]), "given": given},
        }

    def _of_all(self, lanes: list[State | None]) -> dict[str, list[State | None]]:
        """Return the places of the readers of every process, or of this one if it is alone."""
        if self.world_size == 1 or not distributed.is_initialized():
            return {str(self.rank): lanes}
        found: list[Any] = [None] * self.world_size
        distributed.all_gather_object(found, lanes)
        return {str(rank): of_rank for rank, of_rank in enumerate(found)}

    def _place(self) -> State:
        return {"position": self.position, "lanes": list(self.lanes)}

    def _given(self) -> dict[str, Any]:
        """Return what must be the same for a place to mean the same."""
        files = {f"files of {name}": shards.digest() for name, shards in self.sources.items()}
        names = ("length", "batch_size", "seed", "order", "world_size")
        numbers = {name: getattr(self, name) for name in names}
        return {**self.shares, **numbers, **files}

    def first_blocks(self) -> list[list[int]]:
        """Return the blocks of this rank's very first micro-batch."""
        return _Reader(self, 0).blocks(0)

    def summary(self) -> list[str]:
        """Return lines on what an epoch reads."""
        tokens = self.batches * self.world_size * self.batch_size * self.length
        lines = [f"streamed    {tokens:,} tokens in blocks of {self.length:,}; {self.order} shares"]
        for name, share in self.shares.items():
            shards = self.sources[name]
            lines.append(f"  {name:12} {share:7.2%}  {len(shards)} shards of {shards.path}")
        return lines

    def load_state_dict(self, state: State) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            InputError: The mixture or the number of processes is another one.
        """
        mine = self._given()
        for name, value in state["given"].items():
            if mine.get(name) != value:
                raise InputError(
                    f"data: the checkpoint was made with {name} = {value}, now it is "
                    f"{mine.get(name)}; a mixture goes on exactly or not at all (--init_from takes "
                    f"weights alone)"
                )
        self.position, self.lanes = state["position"], list(state["lanes"][str(self.rank)])
        self._resumed = True

    def limit_epochs(self, limit: float) -> None:
        """Take fewer micro-batches of every epoch: their number, or a share."""
        self.limit = int(self.batches * limit) if isinstance(limit, float) else int(limit)


class _Lanes(IterableDataset[Any]):
    """The micro-batches of a rank from `start` to `stop`, with reader and its place behind each."""

    def __init__(self, loader: MixtureLoader, start: int, stop: int) -> None:
        self.loader, self.start, self.stop = loader, start, stop

    def __iter__(self) -> Iterator[tuple[int, State, Any]]:
        info = get_worker_info()
        first, workers = (0, 1) if info is None else (info.id, info.num_workers)
        readers: dict[int, _Reader] = {}
        for number in range(self.start + first, self.stop, workers):
            lane = number % LANES
            if lane not in readers:
                readers[lane] = _Reader(self.loader, lane)
            reader = readers[lane]
            blocks = reader.blocks(number)
            yield lane, reader.state_dict(), self.loader.collate(blocks)


class _Reader:
    """A lane: the schedule so far, and its blocks of each source."""

    def __init__(self, loader: MixtureLoader, lane: int) -> None:
        state = loader.lanes[lane] or {"counts": None, "sources": {}}
        self.loader = loader
        given = {"order": loader.order, "seed": loader.seed, "counts": state["counts"]}
        self.schedule = MixtureSchedule(loader.shares, **given)
        self.sources = {
            name: TokenBlocks(
                shards,
                loader.ids,
                loader.length,
                lane=loader.rank * LANES + lane,
                lanes=loader.world_size * LANES,
                max_epochs=loader.max_epochs,
                state=state["sources"].get(name),
            )
            for name, shards in loader.sources.items()
        }

    def blocks(self, number: int) -> list[list[int]]:
        """Return the blocks of a micro-batch of this rank."""
        loader = self.loader
        size = loader.batch_size
        first = (number * loader.world_size + loader.rank) * size
        while self.schedule.position < first:  # blocks of other readers
            next(self.schedule)
        return [next(self.sources[next(self.schedule)]) for _ in range(size)]

    def state_dict(self) -> State:
        """Return where the next block of each source begins, and how many of each there were."""
        places = {name: blocks.state_dict() for name, blocks in self.sources.items()}
        return {
            "counts": dict(self.schedule.counts),
            "sources": {name: place for name, place in places.items() if place is not None},
        }


def complete_shares(sources: Mapping[str, str], shares: Mapping[str, float]) -> dict[str, float]:
    """Return the share of every source; one that is not named gets what is left.

    Without any share all sources have the same one.

    Raises:
        InputError: A share is not in 0..1 or of no source, or they do not add up to 1.
    """
    if not shares:
        return {name: 1 / len(sources) for name in sources}
    for name, share in shares.items():
        if name not in sources:
            raise InputError(f"data.shares: no source {name!r}; {nearest(name, sources)}")
        if not 0 <= share <= 1:
            raise InputError(f"data.shares.{name}: {share} is not in 0..1")
    rest = [name for name in sources if name not in shares]
    left = 1 - sum(shares.values())
    if len(rest) > 1:
        raise InputError(f"data.shares: name the shares of all sources but one: {', '.join(rest)}")
    if left < -1e-9 or (not rest and left > 1e-9):
        raise InputError(f"data.shares: they add up to {1 - left:g}, not to 1")
    return {name: shares.get(name, max(0.0, left)) for name in sources}
