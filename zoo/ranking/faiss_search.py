"""Search by inner product in a FAISS index, for methods whose scores they are."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.errors import InputError


def check_vectors(module: Any) -> None:
    """Raise unless FAISS can search for this method.

    Raises:
        InputError: The method's scores are no inner products, or FAISS is not installed.
    """
    if not hasattr(module, "search_vectors"):
        name = type(module).__name__
        raise InputError(f"engine: the scores of {name} are no inner products; use torch")
    if importlib.util.find_spec("faiss") is None:
        raise InputError("engine: faiss is not installed; pip install faiss-cpu, or use torch")


def faiss_index(vectors: Tensor) -> Any:
    """Return an exact FAISS index of inner products over vectors `(n, D)`."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors.float().cpu().contiguous().numpy())
    return index


def vector_search(
    module: Any, queries: Sequence[str], vectors: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Return scores and positions of the k best vectors of each query, `(Q, k)` each.

    Args:
        module: A method with `search_vectors(queries)`.
        queries: Their texts.
        vectors: One per document, `(n, D)`.
        k: How many; at most n are returned.

    Raises:
        InputError: See `check_vectors`.
    """
    check_vectors(module)
    asked = module.search_vectors(queries).float().cpu().contiguous().numpy()
    odds, places = faiss_index(vectors).search(asked, min(k, len(vectors)))
    return torch.from_numpy(odds).double(), torch.from_numpy(places)
