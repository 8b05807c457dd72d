"""Read something at the end of many (prefix, suffix) pairs, every prefix run once.

Pairs are grouped by their prefixes, so documents of a pool are batched for one query and queries
are batched over one document; sorted by length and packed to a budget of tokens. Prefixes may be
kept from call to call in a `Store` while the weights stay as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from zoo.decoding.batching import BUDGET, chunks, in_step
from zoo.decoding.prefix_cache import Prefixes, last_states, prefill

Value = TypeVar("Value")


class Store(Generic[Value]):
    """Values by key, the last used ones up to a number of bytes.

    Args:
        max_bytes: Memory for the values; what was not used for longest goes first.
    """

    def __init__(self, max_bytes: float = 2**30) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._kept: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of values."""
        return len(self._kept)

    def find(self, key: Hashable) -> Value | None:
        """Return a value, or None if it is not here."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def add(self, key: Hashable, value: Value, num_bytes: int) -> None:
        """Keep a value that is not here yet."""
        if num_bytes > self.max_bytes or key in self._kept:
            return
        self._kept[key] = value, num_bytes
        self.num_bytes += num_bytes
        while self.num_bytes > self.max_bytes:
            _, (_, size) = self._kept.popitem(last=False)
            self.num_bytes -= size


def store_of(prefixes: Sequence[Prefixes]) -> Store[Prefixes]:
    """Return a store of exactly these prefixes; their keys are their positions."""
    store: Store[Prefixes] = Store(float("inf"))
    for i, prefix in enumerate(prefixes):
        store.add(i, prefix, prefix.num_bytes)
    return store


def read_pairs(
    lm: Any,
    prefixes: Mapping[Hashable, Sequence[int]],
    suffixes: Sequence[Sequence[int]],
    pairs: Sequence[tuple[Hashable, int]],
    read: Callable[[Tensor], Tensor],
    *,
    store: Store[Prefixes] | None = None,
    slot: int | None = None,
    everyone_done: Callable[[bool], bool] = bool,
    budget: int = BUDGET,
) -> Tensor:
    """Return what `read` finds in the state of each pair's last token, `(len(pairs), ...)`.

    Args:
        lm: Causal language model.
        prefixes: Key -> token ids; those that the store has are not run.
        suffixes: Token ids.
        pairs: (key of a prefix, position of a suffix), at least one.
        read: Maps states before the final norm, `(R, D)`, to a row each.
        store: Prefixes that are kept; None for none.
        slot: See `prefill`.
        everyone_done: Says whether all processes have finished, given whether this one has.
        budget: Tokens to run at a time.
    """
    store = Store(0) if store is None else store
    of_key: dict[Hashable, list[int]] = {}
    for i, (key, _) in enumerate(pairs):
        of_key.setdefault(key, []).append(i)
    kept = {key: part for key in of_key for part in [store.find(key)] if part is not None}
    lengths = [int(kept[key].ends) if key in kept else len(prefixes[key]) for key in of_key]
    jobs: list[tuple[list[Hashable], list[int]]] = []  # no rows: run these prefixes
    for group in chunks(list(of_key), lengths, budget):
        missing = [key for key in group if key not in kept]
        jobs += [(missing, [])] if missing else []
        rows = [i for key in group for i in of_key[key]]
        sizes = [len(suffixes[pairs[i][1]]) for i in rows]
        jobs += [(group, part) for part in chunks(rows, sizes, budget)]
    fresh: dict[Hashable, Prefixes] = {}
    joined: tuple[list[Hashable], Prefixes] | None = None
    results: list[tuple[list[int], Tensor]] = []
    for (group, rows), real in in_step(jobs, everyone_done):
        if not rows:
            parts = prefill(lm, [prefixes[k] for k in group], slot=slot, budget=budget).split()
            fresh = dict(zip(group, parts, strict=True))
            for key, part in fresh.items():
                store.add(key, part, part.num_bytes)
            continue
        if joined is None or joined[0] is not group:
            joined = group, Prefixes.join([fresh[k] if k in fresh else kept[k] for k in group])
        places = {key: i for i, key in enumerate(group)}
        owners = [places[pairs[i][0]] for i in rows]
        states = last_states(lm, joined[1], owners, [suffixes[pairs[i][1]] for i in rows])
        results += [(rows, read(states))] if real else []
    order = torch.tensor([i for rows, _ in results for i in rows], device=results[0][1].device)
    return torch.cat([values for _, values in results])[order.argsort()]


def pack(prefixes: Prefixes) -> dict[str, Tensor]:
    """Return prefixes as tensors that can be written to a file, laid end to end.

    `keys` and `values` are `(N, K, G, C)`: tokens, blocks, heads, width; `last` is `(P, D)`.
    """
    parts = prefixes.split()
    packed = {
        name: torch.cat([torch.cat(getattr(part, name)).permute(2, 0, 1, 3) for part in parts])
        for name in ("keys", "values")
    }
    return {**packed, "lengths": prefixes.ends, "last": prefixes.last}


def unpack(states: Mapping[str, Tensor], device: torch.device) -> list[Prefixes]:
    """Return what `pack` has packed, every prefix by itself."""
    lengths = states["lengths"].tolist()
    columns = []
    for name in ("keys", "values"):
        rows = states[name].to(device).permute(1, 2, 0, 3).split(lengths, 2)
        columns.append([list(row[:, None]) for row in rows])
    ends, last = states["lengths"].to(device), states["last"].to(device)
    return [
        Prefixes(keys, values, torch.zeros_like(ends[i : i + 1]), ends[i : i + 1], last[i : i + 1])
        for i, (keys, values) in enumerate(zip(*columns, strict=True))
    ]
