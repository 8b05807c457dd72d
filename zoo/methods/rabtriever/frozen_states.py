"""States of documents and queries under a frozen model: each is run once and kept.

Since the weights never change, what is kept is what would be computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from zoo.decoding.batching import BUDGET, chunks, in_step
from zoo.decoding.prefix_cache import Prefixes, extend, prefill, run_packed
from zoo.ranking.pair_scoring import Store

Value = TypeVar("Value", Prefixes, Tensor)
Ids = tuple[int, ...]


class PairStates(NamedTuple):
    """What the model makes of some pairs, after the final norm.

    Attributes:
        ends: State of each document's last token, `(R, D)`.
        blind: States of each query part alone, `(R, T, D)`.
        seeing: States of each query part after its document, `(R, T, D)`.
        real: Which slots of a query part are tokens, `(R, T)`.
        last: Slot of each query part's last token, `(R,)`.
    """

    ends: Tensor
    blind: Tensor
    seeing: Tensor
    real: Tensor
    last: Tensor


class FrozenStates:
    """Keys, values and states by token ids; states are those before the final norm.

    Args:
        slot: Width in tokens that every document is padded to, on its left.
        max_bytes: Memory for documents, as much again for queries; 0 keeps none.
    """

    def __init__(self, slot: int, max_bytes: float) -> None:
        self.slot = slot
        self.prefixes: Store[Prefixes] = Store(max_bytes)
        self.ends: Store[Tensor] = Store(max_bytes)
        self.queries: Store[Tensor] = Store(max_bytes)

    def documents(
        self, lm: Any, heads: Iterable[Ids], done: Callable[[bool], bool] = bool
    ) -> dict[Ids, Prefixes]:
        """Return keys, values and last state of each document, to be continued."""

        def run(group: Sequence[Ids]) -> list[Prefixes]:
            return prefill(lm, group, slot=self.slot).split()

        return _fill(self.prefixes, heads, run, done, lambda prefix: prefix.num_bytes)

    def last(self, lm: Any, heads: Sequence[Ids], done: Callable[[bool], bool] = bool) -> Tensor:
        """Return the state of each document's last token, `(N, D)`, in the order of `heads`."""

        def run(group: Sequence[Ids]) -> list[Tensor]:
            return [row.clone() for row in prefill(lm, group, slot=self.slot).last]

        states = _fill(self.ends, heads, run, done, _bytes)
        return torch.stack([states[head] for head in heads])

    def alone(
        self, lm: Any, tails: Iterable[Ids], done: Callable[[bool], bool] = bool
    ) -> dict[Ids, Tensor]:
        """Return the states of each query that has seen no document, `(T, D)`.

        Its first token is at the position where the slot ends, as when a document is there.
        """

        def run(group: Sequence[Ids]) -> list[Tensor]:
            states = run_packed(lm, group, [self.slot] * len(group))
            return [part.clone() for part in states.split([len(ids) for ids in group])]

        return _fill(self.queries, tails, run, done, _bytes)

    @torch.no_grad()
    def pairs(
        self,
        lm: Any,
        heads: Sequence[Ids],
        tails: Sequence[Ids],
        done: Callable[[bool], bool] = bool,
    ) -> PairStates:
        """Return the states of pairs of a document and a query part, apart and together."""
        norm, documents = lm.model.norm, self.documents(lm, heads, done)
        places = {head: i for i, head in enumerate(documents)}
        owners = [places[head] for head in heads]
        prefixes = Prefixes.join(list(documents.values()))
        seeing_RTD, lengths = extend(lm, prefixes, owners, tails)
        alone = self.alone(lm, tails, done)
        blind_RTD = pad_sequence([alone[tail] for tail in tails], batch_first=True)
        last_R = torch.tensor(lengths, device=seeing_RTD.device) - 1
        real_RT = torch.arange(max(lengths), device=last_R.device) <= last_R[:, None]
        ends_RD = norm(prefixes.last)[owners]
        return PairStates(ends_RD, norm(blind_RTD), norm(seeing_RTD), real_RT, last_R)


def _fill(
    store: Store[Value],
    keys: Iterable[Ids],
    run: Callable[[Sequence[Ids]], list[Value]],
    done: Callable[[bool], bool],
    size: Callable[[Value], int],
) -> dict[Ids, Value]:
    """Return the value of each key; run those that are not kept, in step with other processes."""
    wanted = list(dict.fromkeys(keys))
    by_key = {key: value for key in wanted for value in [store.find(key)] if value is not None}
    missing = [key for key in wanted if key not in by_key]
    if done(not missing):
        return by_key
    todo = missing or wanted[:1]
    for group, _ in in_step(list(chunks(todo, [len(k) for k in todo], BUDGET, padded=False)), done):
        for key, value in zip(group, run(group), strict=True):
            by_key[key] = value
            store.add(key, value, size(value))
    return by_key


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
