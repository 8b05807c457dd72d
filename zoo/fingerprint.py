"""Short names for contents: of weights, of settings, of token ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def digest(value: Any) -> str:
    """Return 16 hex digits that name a JSON-like value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def weights_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Return 16 hex digits that name some weights: names, types, shapes and every byte.

    Args:
        tensors: Names and tensors, none of them sharded.
    """
    found = hashlib.sha256()
    for name, tensor in sorted(tensors):
        found.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        found.update(data.numpy().data)
    return found.hexdigest()[:16]
