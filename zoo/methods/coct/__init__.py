"""CoCT: a chain of concepts before each sentence (arXiv 2510.18434)."""

from zoo.methods.coct.module import CoCT

__all__ = ["CoCT"]
