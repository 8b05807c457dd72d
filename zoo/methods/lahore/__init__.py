"""LaHoRe: an LLM reranks by hidden rationale (arXiv 2412.16615)."""

from zoo.methods.lahore.module import LaHoRe

__all__ = ["LaHoRe"]
