"""What methods share that answer a `TalkEncoder`'s prompt with the backbone's own language head."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.decoding.shared_context import SharedContext
from zoo.encoding import Batch
from zoo.losses.cross_entropy import Term, head_loss
from zoo.module import ZooModule
from zoo.support.decisions import Decision
from zoo.support.encoder import SPEAK, TalkEncoder


def reply_loss(module: ZooModule, batch: Batch) -> dict[str, Term]:
    """Return the loss of the replies: the mean over their tokens."""
    return {"speak": head_loss(module(batch), batch, SPEAK, *module.output_head)}


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
