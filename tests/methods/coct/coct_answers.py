"""A CoCT that says given words, for its tests (its sheet is that of arXiv 2510.18434)."""

from __future__ import annotations

from typing import Any

import pytest

from zoo.decoding.shared_context import SharedContext

TWO = ("tiny-llama", "tiny-gemma")
WIDE = {"max_length": 8192, "reserve": 2048, "max_new_tokens": 4}
WORDS = "<Reflection of Feelings> That hurts. <sadness>I am sorry. <Questions> Since when?"


def answering(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[list[str]]:
    """Let the model say these words, one for each row; return the prompts that it is asked."""
    prompts: list[list[str]] = []

    def ask(context: SharedContext, questions: Any, **_: Any) -> list[str]:
        told = [
            context.tokenizer.decode([*prefix, *(t for piece in pieces for t in piece)])
            for prefix, pieces in zip(context.prefixes, context.pieces, strict=True)
        ]
        prompts.append([text + q for text, q in zip(told, questions, strict=True)])
        return list(words[: len(questions)])

    monkeypatch.setattr(SharedContext, "ask", ask)
    return prompts
