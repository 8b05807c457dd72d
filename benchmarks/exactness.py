"""Do both sides compute the same? Relative differences of losses and gradients."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from benchmarks.harness import BenchmarkError


def fingerprint(data: Any) -> str:
    """Return a hash of data, which has to be equal on both sides."""
    return hashlib.sha256(repr(data).encode()).hexdigest()


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Return the gradients by parameter name."""
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Return the norm of the difference over the norm of theirs."""
    gap = (ours.detach() - theirs.detach()).norm()
    return float(gap / theirs.detach().norm().clamp_min(1e-30))


def farthest(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], skipped: tuple[str, ...] = ()
) -> float:
    """Return the largest distance of tensors of one name.

    Raises:
        BenchmarkError: A name is on one side only.
    """
    if ours.keys() != theirs.keys():
        raise BenchmarkError(f"on one side only: {sorted(ours.keys() ^ theirs.keys())}")
    return max(distance(ours[name], theirs[name]) for name in ours if name not in skipped)


def require_equal(distances: Mapping[str, float], tolerance: float) -> None:
    """Stop the run where a distance is above the tolerance.

    Raises:
        BenchmarkError: Names what differs.
    """
    for name, value in distances.items():
        if not value <= tolerance:
            raise BenchmarkError(f"{name}: ours differs by {value:.1e} (tolerance {tolerance:.0e})")
