"""Vectors of some documents, for TensorBoard's projector."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.records import Ranking

MAX_VECTORS = 1000
MAX_TITLE = 80  # characters


class DocumentVectors:
    """The first `MAX_VECTORS` documents that an evaluation meets, with their vectors."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, Tensor]] = {}  # document id -> title and vector

    def add(self, records: Sequence[Ranking], vectors: Tensor) -> None:
        """Keep vectors of documents that are not here yet.

        Args:
            records: Some records.
            vectors: One for each document of each record's pool, in their order, `(N, D)`.
        """
        documents = [record.corpus.documents[name] for record in records for name in record.pool]
        for document, vector in zip(documents, vectors, strict=True):
            if len(self.kept) < MAX_VECTORS and document.id not in self.kept:
                title = (document.title or document.text)[:MAX_TITLE]
                self.kept[document.id] = title, vector.cpu()

    def figure(self, known: Container[str]) -> dict[str, Any]:
        """Return vectors and titles of the documents among `known`, as the projector takes them."""
        points = [point for name, point in self.kept.items() if name in known]
        if not points:
            return {}
        titles, vectors = zip(*points, strict=True)
        return {"documents": (torch.stack(vectors), titles)}
