"""MeTHanol: an intermediate layer thinks (arXiv 2409.12059)."""

from zoo.methods.methanol.module import MeTHanol

__all__ = ["MeTHanol"]
