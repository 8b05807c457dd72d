"""Turn markers of a chat format, found by the tokens that a tokenizer knows, or by its template.

A method writes its own roles (`thought` beside `user` and `assistant`), which chat templates do not
know, so the markers are used directly. No token is added to any vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from zoo.encoding import NO_HEAD, Segment
from zoo.markup import Markup

log = logging.getLogger(__name__)
PLAIN_HEADER = "### {role}\n"
SEPARATOR = "<|im_sep|>"  # of Phi 4, whose markers are those of ChatML otherwise


@dataclass(frozen=True)
class ChatFormat:
    """Markers around a turn.

    Attributes:
        begin: Text before the first turn.
        header: Opening of a turn, with `{role}`.
        end: End-of-turn token, as `Markup`; the last thing a head learns of a segment.
        gap: Text between an end-of-turn and the next header.
        turns: Role -> what opens and what closes its turns, where it is not gap, header and end.
    """

    begin: str
    header: str
    end: Markup
    gap: str
    turns: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def open(self, role: str, *, first: bool = False) -> Markup:
        """Return what precedes a turn's text: gap and header, or begin and header."""
        opening, _ = self.turns.get(role, (self.gap + self.header.format(role=role), ""))
        return Markup(self.begin + opening.lstrip() if first else opening)

    def close(self, role: str) -> Markup:
        """Return what ends a turn's text."""
        return Markup(self.turns[role][1]) if role in self.turns else self.end

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


@lru_cache(maxsize=64)
def chat_format(tokenizer: Any) -> ChatFormat:
    """Return the format whose end-of-turn is a token of this tokenizer.

    Other models' markers are learned from their chat template. A base model without one, and a
    model whose template is not additive, get plain headers and their end-of-sequence token.
    """
    from zoo.prompts.chat_template import learned_format

    vocabulary = tokenizer.get_vocab()
    for known, token in (
        (CHATML, "<|im_start|>"),
        (LLAMA3, "<|start_header_id|>"),
        (GEMMA, "<start_of_turn>"),
    ):
        if token in vocabulary and known.end in vocabulary and SEPARATOR not in vocabulary:
            return known
    if tokenizer.chat_template:
        learned = learned_format(tokenizer)
        if learned is not None:
            return learned
        log.warning(
            "%s: no turn markers can be taken from its chat template, which is not additive; turns "
            "begin with plain `### role` lines",
            tokenizer.name_or_path or "tokenizer",
        )
    return ChatFormat(
        begin=tokenizer.bos_token or "",
        header=PLAIN_HEADER,
        end=Markup(tokenizer.eos_token),
        gap="\n",
    )
