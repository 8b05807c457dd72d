"""Open-ended use: a reply in a conversation under value instructions, in one or two sentences.

The situation that is retrieved for is the conversation so far. What was said, oldest turns first,
is left out where the window is full; instructions never are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from zoo.decoding.depth_decoder import DepthDecoder
from zoo.errors import InputError
from zoo.methods.sova import prompts
from zoo.methods.sova.instruction import Instruction
from zoo.prompts.base import PromptEncoder
from zoo.prompts.thoughts import supporter_turns
from zoo.prompts.truncation import first_kept
from zoo.records import SUPPORTER, Dialogue, Turn

ONLY = 0  # the one depth of the decoder
TASK = "\nReply to the last message as the supporter, in one or two short sentences."
NAMES = {True: "Supporter", False: "Seeker"}


@dataclass(frozen=True, slots=True)
class ValueReply:
    """A reply and the instructions that it was written under, best first."""

    text: str
    instructions: tuple[Instruction, ...] = ()

    def notes(self) -> dict[str, str]:
        """Return the parts by name, to be shown."""
        return {"instructions": prompts.listed(self.instructions), "reply": self.text}

    def plain(self) -> dict[str, Any]:
        """Return the parts as plain values."""
        return {"reply": self.text, "instructions": [asdict(item) for item in self.instructions]}


def gold(record: Dialogue) -> Turn:
    """Return the supporter turn that is replied for: the last one that answers something.

    Raises:
        InputError: There is none.
    """
    return record.turns[_last(record)]


def lines(record: Dialogue) -> list[str]:
    """Return what was said before that turn, a line each."""
    said = record.turns[: _last(record)]
    return [f"{NAMES[turn.speaker == SUPPORTER]}: {turn.text}\n" for turn in said]


def situation(record: Dialogue) -> str:
    """Return the conversation so far, which instructions are retrieved for."""
    return "".join(lines(record)).rstrip("\n")


def prompt(
    encoder: PromptEncoder,
    record: Dialogue,
    instructions: Sequence[Instruction],
    theory: str,
    room: int,
) -> list[int]:
    """Return the token ids up to the reply.

    Args:
        encoder: Of SoVA.
        record: The conversation.
        instructions: Those that are kept; without any the prompt is the plain one.
        theory: Whose role the agent has.
        room: Tokens of the window to keep free for the reply.

    Raises:
        TooLongError: Not even the last turn fits.
    """
    system = prompts.role(theory) if instructions else prompts.SYSTEM
    opened = encoder.system_turn(system) + encoder.chat.open("user")
    head = encoder.ids(opened + prompts.steering(instructions) + "Conversation so far:\n")
    tail = encoder.ids(TASK + encoder.chat.close("user") + encoder.chat.open("assistant"))
    pieces = [encoder.ids(line) for line in lines(record)]
    budget = encoder.max_length - room - len(tail)
    first = first_kept(len(head), [len(piece) for piece in pieces], budget)
    return [*head, *(token for piece in pieces[first:] for token in piece), *tail]


def reply(
    decoder: DepthDecoder,
    encoder: PromptEncoder,
    records: Sequence[Dialogue],
    kept: Sequence[Sequence[Instruction]],
    theory: str,
    project: Callable[[Tensor], Tensor],
    *,
    max_new_tokens: int,
    temperature: float,
) -> list[ValueReply]:
    """Return a reply in each conversation.

    Args:
        decoder: Empty, a row for each conversation.
        encoder: Of SoVA.
        records: The conversations.
        kept: Instructions for each.
        theory: Whose role the agent has.
        project: Maps states to logits.
        max_new_tokens: Limit of a reply.
        temperature: 0 is greedy.
    """
    pairs = list(zip(records, kept, strict=True))
    decoder.open([prompt(encoder, record, k, theory, max_new_tokens) for record, k in pairs])
    ids = decoder.decode(
        ONLY,
        project,
        stop_id=encoder.stop_id,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        close=False,
    )
    texts = encoder.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [
        ValueReply(" ".join(text.split()), tuple(k)) for text, k in zip(texts, kept, strict=True)
    ]


def _last(record: Dialogue) -> int:
    answering = supporter_turns(record)
    if not answering:
        raise InputError(f"{record.id}: no supporter turn answers a seeker")
    return answering[-1]
