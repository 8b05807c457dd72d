"""Vectors of every query and item that an evaluation meets, by view and direction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from zoo.methods.m3_jepa.metrics import Bank, recall, search
from zoo.methods.m3_jepa.plots import picture_grid
from zoo.methods.m3_jepa.predictor import Direction
from zoo.records import Media

NUM_SHOWN = 6  # queries in a picture grid
NUM_FOUND = 5  # pictures of each
MAIN_VIEW = "contrastive"  # its scores have no prefix


class Banks:
    """Banks of queries by (view, direction), and of items by (view, modality)."""

    def __init__(self) -> None:
        self.queries: dict[tuple[str, str], Bank] = {}
        self.gallery: dict[tuple[str, str], Bank] = {}
        self.media: dict[str, Media] = {}

    def add(
        self,
        view: str,
        direction: Direction,
        keys: tuple[Sequence[str], Sequence[str]],
        groups: Sequence[str],
        vectors: tuple[Tensor, Tensor],
    ) -> None:
        """Keep the pairs of a batch that are new.

        Args:
            view: Which vectors these are.
            direction: Which way.
            keys: Names of the queries, and of the items.
            groups: Queries and items of one group match.
            vectors: Those of the queries, and of the items, `(B, H)` each.
        """
        queries = self.queries.setdefault((view, direction.name), Bank())
        gallery = self.gallery.setdefault((view, direction.target), Bank())
        for bank, names, rows in zip((queries, gallery), keys, vectors, strict=True):
            new = bank.new(names)
            if new:
                bank.add([names[i] for i in new], [groups[i] for i in new], rows[new])

    def merge(self, others: Iterable[Banks]) -> None:
        """Add what other processes have kept."""
        for other in others:
            self.media |= other.media
            self._merge(self.queries, other.queries)
            self._merge(self.gallery, other.gallery)

    def _merge(self, banks: dict[tuple[str, str], Bank], others: Mapping[Any, Bank]) -> None:
        for name, bank in others.items():
            banks[name].merge(bank)

    def recall(self) -> dict[str, float]:
        """Return recall in every view and direction, and the mean R@1 of the contrastive view."""
        scores: dict[str, float] = {}
        first: list[float] = []
        for (view, name), queries in self.queries.items():
            values = recall(queries, self.gallery[view, name.rpartition("2")[2]])
            prefix = "" if view == MAIN_VIEW else f"{view}_"
            scores |= {f"{prefix}{metric}_{name}": value for metric, value in values.items()}
            first += [values["R@1"]] if view == MAIN_VIEW else []
        return scores | {"R@1": sum(first) / len(first)}

    def figures(self) -> dict[str, Any]:
        """Return a grid of retrieved pictures, and the vectors of each modality's items."""
        drawn: dict[str, Any] = {}
        if (MAIN_VIEW, "text2image") in self.queries:
            drawn["retrieval"] = picture_grid(self._retrieved())
        for (view, modality), bank in self.gallery.items():
            if view == MAIN_VIEW:
                drawn[f"vectors/{modality}"] = (bank.matrix(), list(bank.keys))
        return drawn

    def _retrieved(self) -> list[tuple[str, list[tuple[Media, bool]]]]:
        """Return some texts with the pictures nearest to them and whether they match."""
        queries = self.queries[MAIN_VIEW, "text2image"]
        gallery = self.gallery[MAIN_VIEW, "image"]
        shown = range(0, len(queries), max(1, len(queries) // NUM_SHOWN))[:NUM_SHOWN]
        best = search(queries.matrix()[list(shown)], gallery.matrix(), NUM_FOUND)[1].tolist()
        pictures, texts = list(gallery.keys), list(queries.keys)
        rows = []
        for q, nearest in zip(shown, best, strict=True):
            right = [gallery.groups[g] == queries.groups[q] for g in nearest]
            media = [self.media[pictures[g]] for g in nearest]
            rows.append((texts[q].rpartition("\n")[2], list(zip(media, right, strict=True))))
        return rows
