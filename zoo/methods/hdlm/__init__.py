"""HdLM: a hierarchy decoded at several depths (arXiv 2507.12930)."""

from zoo.methods.hdlm.module import HdLM

__all__ = ["HdLM"]
