"""A sample's text with its masks in colour, and an answer shaded by doubt, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.encoding import NO_HEAD, Example

COLOURS = ("\033[32m", "\033[36m", "\033[35m", "\033[33m")  # one per head
PLAIN, DIM = "\033[0m", "\033[2m"


def preview(example: Example, tokenizer: Any) -> list[str]:
    """Return a sample's text with each head's tokens in its colour and context dimmed."""
    heads = [NO_HEAD, *example.head_ids[:-1]]  # undo the shift: the head that learns each token
    learned = [head for head in heads if head != NO_HEAD]
    text, start = "", 0
    for end in range(1, len(heads) + 1):
        if end == len(heads) or heads[end] != heads[start]:
            head = heads[start]
            piece = tokenizer.decode(example.input_ids[start:end])
            text += (DIM if head == NO_HEAD else COLOURS[head % len(COLOURS)]) + piece + PLAIN
            start = end
    legend = " ".join(
        f"{COLOURS[head % len(COLOURS)]}head {head}: {learned.count(head)} tokens{PLAIN}"
        for head in sorted(set(learned))
    )
    context = len(heads) - len(learned)
    return [f"sample      {legend} {DIM}context: {context} tokens{PLAIN}", text]


def shaded(tokens: Sequence[tuple[str, float]]) -> str:
    """Return an answer's tokens on a background from green (no doubt, 0) to red (1)."""
    ramp = (22, 58, 94, 130, 88)  # dark green to dark red of the 256 colours
    return "".join(
        f"\033[48;5;{ramp[min(len(ramp) - 1, int(doubt * len(ramp)))]}m{text}{PLAIN}"
        for text, doubt in tokens
    )
