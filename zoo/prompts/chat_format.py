"""Turn markers of a chat format, found by the tokens that a tokenizer knows.

A method writes its own roles (`thought` beside `user` and `assistant`), which chat templates do not
know, so the markers are used directly. No token is added to any vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.encoding import NO_HEAD, Segment
from zoo.markup import Markup


@dataclass(frozen=True)
class ChatFormat:
    """Markers around a turn.

    Attributes:
        begin: Text before the first turn.
        header: Opening of a turn, with `{role}`.
        end: End-of-turn token, as `Markup`; the last thing a head learns of a segment.
        gap: Text between an end-of-turn and the next header.
    """

    begin: str
    header: str
    end: Markup
    gap: str

    def open(self, role: str, *, first: bool = False) -> Markup:
        """Return what precedes a turn's text: gap and header, or begin and header."""
        return Markup((self.begin if first else self.gap) + self.header.format(role=role))

    def close(self, role: str) -> Markup:
        """Return what ends a turn's text."""
        return self.end

    def turn(
        self, role: str, text: str, *, head: int = NO_HEAD, first: bool = False, weight: float = 1.0
    ) -> list[Segment]:
        """Return a turn's segments; text and end-of-turn belong to `head`, the header never."""
        return [
            Segment(self.open(role, first=first), "header"),
            Segment(text + self.close(role), role, head, weight),
        ]


CHATML = ChatFormat(begin="", header="<|im_start|>{role}\n", end=Markup("<|im_end|>"), gap="\n")
LLAMA3 = ChatFormat(
    begin="<|begin_of_text|>",
    header="<|start_header_id|>{role}<|end_header_id|>\n\n",
    end=Markup("<|eot_id|>"),
    gap="",
)
GEMMA = ChatFormat(
    begin="<bos>",
    header="<start_of_turn>{role}\n",
    end=Markup("<end_of_turn>"),
    gap="\n",
)


def chat_format(tokenizer: Any) -> ChatFormat:
    """Return the format whose end-of-turn is a token of this tokenizer.

    A base model without turn tokens gets plain headers and its end-of-sequence token.
    """
    vocabulary = tokenizer.get_vocab()
    for known, token in (
        (CHATML, "<|im_start|>"),
        (LLAMA3, "<|start_header_id|>"),
        (GEMMA, "<start_of_turn>"),
    ):
        if token in vocabulary and known.end in vocabulary:
            return known
    return ChatFormat(
        begin=tokenizer.bos_token or "",
        header="### {role}\n",
        end=Markup(tokenizer.eos_token),
        gap="\n",
    )
