"""Conversations as a language model reads them once, before it is asked about them."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.decoding.shared_context import SharedContext
from zoo.module import ZooModule
from zoo.support.decisions import Decision
from zoo.support.encoder import TalkEncoder


def conversation_context(module: ZooModule, decisions: Sequence[Decision]) -> SharedContext:
    """Return the conversations before some decisions, a row each, ready for questions."""
    encoder: TalkEncoder = module.encoder()
    context = SharedContext(
        module.lm,
        encoder.tokenizer,
        [encoder.head(decision) for decision in decisions],
        stop=encoder.chat.end,
        window=encoder.max_length,
        room=encoder.reserve,
        everyone_done=module.everyone_done,
    )
    for row, decision in enumerate(decisions):
        for line in encoder.lines(decision):
            context.append(row, line)
    return context
