"""Which agents there are: SoVA, its baselines, controls and policies; whose values steer them."""

from __future__ import annotations

from typing import Literal

Theory = Literal["maslow", "emotion", "virtue"]
Policy = Literal["always_do", "always_not", "random", "oracle"]
Kind = Literal[
    "sova",
    "shuffled",
    "wrong_theory",
    "rag",
    "direct",
    "told",
    "ecot",
    "plan_and_solve",
    "metacognitive",
    "sft",
    "steerlm",
    "retriever",
    "always_do",
    "always_not",
    "random",
    "oracle",
]
LEARNED = ("sft", "steerlm", "retriever")
"""Kinds that are trained."""

TALKING = ("sova", "shuffled", "wrong_theory", "direct")
"""Kinds that reply in conversations too."""

PASTING = ("rag", "retriever")
"""Kinds whose prompts hold principles in place of instructions."""

WRONG: dict[str, Theory] = {"maslow": "emotion", "emotion": "virtue", "virtue": "maslow"}
"""The theory whose instructions the control `wrong_theory` gets."""
