"""Shared by the methods that reply to a `TalkEncoder`'s prompt with the one language head."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.decoding.shared_context import Branching
from zoo.encoding import Batch
from zoo.losses.cross_entropy import Term, head_loss
from zoo.module import ZooModule
from zoo.support.decisions import Decision
from zoo.support.encoder import SPEAK, TalkEncoder


def reply_term(module: ZooModule, batch: Batch) -> dict[str, Term]:
    """Return the loss of the replies: the mean over their tokens."""
    weight, norm = module.lm.lm_head.weight, module.lm.model.norm
    return {"speak": head_loss(module(batch), batch, SPEAK, weight, norm)}


def told(module: ZooModule, states: Sequence[Decision]) -> Branching:
    """Return the conversations of some states, ready to be asked."""
    encoder: TalkEncoder = module.encoder()
    branch = Branching(
        module.lm,
        encoder.tokenizer,
        [encoder.head(state) for state in states],
        stop=encoder.chat.end,
        window=encoder.max_length,
        room=encoder.reserve,
        everyone_done=module.everyone_done,
    )
    for row, state in enumerate(states):
        for line in encoder.lines(state):
            branch.tell(row, line)
    return branch
