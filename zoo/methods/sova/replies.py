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
    encoder: PromptEncoder, record: Dialogue, system: str, before: str, room: int
) -> list[int]:
    """Return the token ids up to the reply.

    Args:
        encoder: Of SoVA.
        record: The conversation.
        system: The system line.
        before: What the user says before the conversation, for example instructions.
        room: Tokens of the window to keep free for the reply.

    Raises:
        TooLongError: Not even the last turn fits.
    """
    opened = encoder.system_turn(system) + encoder.chat.open("user")
    head = encoder.ids(opened + before + "Conversation so far:\n")
    tail = encoder.ids(TASK + encoder.chat.close("user") + encoder.chat.open("assistant"))
    pieces = [encoder.ids(line) for line in lines(record)]
    budget = encoder.max_length - room - len(tail)
    first = first_kept(len(head), [len(piece) for piece in pieces], budget)
    return [*head, *(token for piece in pieces[first:] for token in piece), *tail]


def write(
    decoder: DepthDecoder,
    encoder: PromptEncoder,
    heads: Sequence[Sequence[int]],
    project: Callable[[Tensor], Tensor],
    max_new_tokens: int,
    temperature: float,
) -> list[str]:
    """Return the text of a reply to each prompt.

    Args:
        decoder: Empty, a row for each prompt.
        encoder: Of SoVA.
        heads: The prompts' token ids.
        project: Maps states to logits.
        max_new_tokens: Limit of a reply.
        temperature: 0 is greedy.
    """
    decoder.open(heads)
    ids = decoder.decode(
        ONLY,
        project,
        stop_id=encoder.stop_id,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        close=False,
    )
    texts = encoder.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [" ".join(text.split()) for text in texts]


def _last(record: Dialogue) -> int:
    answering = supporter_turns(record)
    if not answering:
        raise InputError(f"{record.id}: no supporter turn answers a seeker")
    return answering[-1]
