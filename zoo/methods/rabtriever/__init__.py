"""Rabtriever: LaHoRe distilled into a retriever (arXiv 2604.23336)."""

from zoo.methods.rabtriever.module import Rabtriever

__all__ = ["Rabtriever"]
