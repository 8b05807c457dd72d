"""Think, then answer: the two phases of a reply over one `DepthDecoder`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zoo.decoding.depth_decoder import DepthDecoder
from zoo.prompts.thoughts import ANSWER, THOUGHT, ThoughtEncoder

Project = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Reply:
    """A generated thought (empty if there was none) and answer."""

    thought: str
    answer: str


@dataclass(frozen=True, slots=True)
class Phase:
    """Where and how to decode one part of a reply.

    Attributes:
        level: Index into the decoder's depths.
        project: Maps states `(B, D)` at that depth to logits `(B, V)`.
        max_new_tokens: Limit in tokens.
        temperature: 0 is greedy.
    """

    level: int
    project: Project
    max_new_tokens: int
    temperature: float = 0.0


def answer(
    decoder: DepthDecoder,
    encoder: Any,
    prompts: Sequence[Sequence[int]],
    *,
    speak: Phase,
    close: bool = False,
) -> list[str]:
    """Decode the text that follows each prompt.

    Args:
        decoder: A fresh decoder with one row per prompt.
        encoder: Has the tokenizer and the `stop_id` of the answer.
        prompts: Token ids up to the first token of the answer.
        speak: How to decode it.
        close: Append the stop token, so that another text can follow.
    """
    decoder.feed(prompts, speak.level)
    ids = decoder.decode(
        speak.level,
        speak.project,
        stop_id=encoder.stop_id,
        max_new_tokens=speak.max_new_tokens,
        temperature=speak.temperature,
        close=close,
    )
    return [text.strip() for text in encoder.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def think_and_answer(
    decoder: DepthDecoder,
    encoder: ThoughtEncoder,
    prompts: Sequence[Sequence[int]],
    *,
    think: Phase | None,
    speak: Phase,
    thoughts: Sequence[str] | None = None,
) -> list[Reply]:
    """Decode a thought and then an answer for every prompt.

    Args:
        decoder: A fresh decoder with one row per prompt.
        encoder: Renders the turn headers.
        prompts: Token ids up to the last end-of-turn before the reply.
        think: How to decode the thought; None skips it.
        speak: How to decode the answer.
        thoughts: Thoughts to use instead of decoding them; an empty string means no thought.
    """
    chat = encoder.chat
    rows = [list(prompt) for prompt in prompts]
    texts = [""] * len(rows)
    if thoughts is not None:
        texts = list(thoughts)
        for row, thought in zip(rows, texts, strict=True):
            if thought:
                row += encoder.ids(chat.open(THOUGHT)) + encoder.ids(thought + chat.close(THOUGHT))
    elif think is not None:
        begun = [row + encoder.ids(chat.open(THOUGHT)) for row in rows]
        texts = answer(decoder, encoder, begun, speak=think, close=True)
        rows = [[] for _ in rows]
    rows = [row + encoder.ids(chat.open(ANSWER)) for row in rows]
    answers = answer(decoder, encoder, rows, speak=speak)
    return [Reply(text.strip(), spoken) for text, spoken in zip(texts, answers, strict=True)]
