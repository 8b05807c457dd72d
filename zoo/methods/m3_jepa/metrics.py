"""Recall at k over a bank of vectors: every item encoded once, scored by one matrix product.

Shapes: Q queries, G gallery items, H width.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.metrics.records import RecordMetric

CHUNK = 2**26  # scores at a time


@dataclass
class Bank:
    """Vectors of items, with the group that says which items match each other."""

    vectors: list[Tensor] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.keys)

    def new(self, keys: Sequence[str]) -> list[int]:
        """Return the positions in `keys` of items that are not here yet, each once."""
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        return [i for i, key in enumerate(keys) if key not in self.keys and first[key] == i]

    def add(self, keys: Sequence[str], groups: Sequence[str], vectors: Tensor) -> None:
        """Add items that are not here yet; their vectors are normalised to length one."""
        for key in keys:
            self.keys[key] = len(self.keys)
        self.groups += groups
        self.vectors.append(F.normalize(vectors.detach().float(), dim=1).cpu())

    def merge(self, other: Bank) -> None:
        """Add the items of another process that are not here yet."""
        names = list(other.keys)
        new = self.new(names)
        if new:
            groups = [other.groups[i] for i in new]
            self.add([names[i] for i in new], groups, other.matrix()[new])

    def matrix(self) -> Tensor:
        """Return all vectors, `(G, H)`."""
        return torch.cat(self.vectors)


def search(queries_QH: Tensor, gallery_GH: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the scores and positions of the k best items of each query, `(Q, k)` each.

    One matrix product, in chunks of queries so that memory stays bounded.

    Args:
        queries_QH: Queries.
        gallery_GH: Items.
        k: How many; at most G are returned.
    """
    k = min(k, len(gallery_GH))
    rows = max(1, CHUNK // max(1, len(gallery_GH)))
    best = [(part @ gallery_GH.t()).topk(k) for part in queries_QH.split(rows)]
    return torch.cat([top.values for top in best]), torch.cat([top.indices for top in best])


def recall(queries: Bank, gallery: Bank, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Return `R@k`: the share of queries with an item of their group among the k best.

    A query with several matching items (captions of one picture) counts as found with the first.

    Args:
        queries: What is asked.
        gallery: What is searched.
        ks: The k's.
    """
    best = search(queries.matrix(), gallery.matrix(), max(ks))[1]
    names = {group: i for i, group in enumerate(dict.fromkeys(gallery.groups))}
    groups_G = torch.tensor([names[group] for group in gallery.groups])
    groups_Q = torch.tensor([names.get(group, -1) for group in queries.groups])
    hits = groups_G[best] == groups_Q[:, None]
    return {f"R@{k}": hits[:, :k].any(1).float().mean().item() for k in ks}


class GroupRecall(RecordMetric):
    """`R@k` of queries over a gallery of vectors; see `recall`.

    torchmetrics' retrieval metrics want a score for every pair of query and item, all at once; here
    a hundred thousand items are searched in chunks.

    Args:
        ks: The k's.
        options: Of `torchmetrics.Metric`.
    """

    def __init__(self, ks: Sequence[int] = (1, 5, 10), **options: Any) -> None:
        super().__init__(**options)
        self.ks = tuple(ks)

    def update(
        self,
        vectors: Tensor,
        groups: Sequence[str],
        asked: Sequence[bool],
        ids: Sequence[str] | None = None,
    ) -> None:
        """Add queries and items.

        Args:
            vectors: One for each query or item, `(N, H)`.
            groups: Queries and items of one group match.
            asked: Whether each is a query; the others are items of the gallery.
            ids: Names, different for queries and items; one that comes twice counts once.
        """
        rows = F.normalize(vectors.detach().float(), dim=1).cpu().numpy()
        texts = [base64.b64encode(row.tobytes()).decode() for row in rows]
        self.keep(zip(asked, groups, texts, strict=True), ids)

    def compute(self) -> dict[str, float]:
        """Return recall by name; nothing without queries or without items."""
        banks = {True: Bank(), False: Bank()}
        for asked, group, text in self.kept():
            vector = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float32)
            banks[asked].add([str(len(banks[asked]))], [group], vector[None])
        return recall(banks[True], banks[False], self.ks) if all(map(len, banks.values())) else {}
