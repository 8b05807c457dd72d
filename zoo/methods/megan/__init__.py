"""MeGan: a hypernetwork gates SwiGLU by text (arXiv 2605.01973)."""

from zoo.methods.megan.module import MeGan

__all__ = ["MeGan"]
