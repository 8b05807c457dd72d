"""Multiple choice as MMLU, C-Eval and CMMLU ask it: the letter that the model finds most likely.

    The question
    A. the first option
    B. ...
    Answer:                       and then one token: A, B, ...

No example stands before the question (zero-shot), and there is no chat markup: a model that has
only learned texts is asked in the same words as one that was fine-tuned.

Shapes: R questions, D width, K options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.decoding.option_logits import option_logits
from zoo.decoding.prefix_cache import run_packed
from zoo.errors import InputError
from zoo.prompts.option_tokens import letter, option_ids
from zoo.records import Question, Triple

CUE = "Answer:"
MOST = 26


def as_triple(record: Question) -> Triple:
    """Return what is asked, and the letter of the right option.

    Raises:
        InputError: The question is empty, or its options cannot be lettered.
    """
    if not record.question.strip():
        raise InputError(f"{record.id or 'question'}: the field 'question' is empty")
    if not 2 <= len(record.options) <= MOST:
        count = len(record.options)
        raise InputError(f"{record.id or 'question'}: {count} options; 2 to {MOST} have letters")
    options = [f"{letter(i)}. {option}" for i, option in enumerate(record.options)]
    text = "\n".join([record.question, *options, CUE])
    return Triple(text, "", letter(record.gold), kind=record.kind, id=record.id)


def letter_ids(tokenizer: Any, count: int) -> list[int]:
    """Return the token of each letter behind `Answer:`, with a blank where that is one token."""
    letters = [letter(i) for i in range(count)]
    try:
        return option_ids(tokenizer, [f" {name}" for name in letters], CUE)
    except InputError:
        return option_ids(tokenizer, letters, CUE, key="model.backbone.name")


def letter_log_probs(
    lm: Any, head: tuple[Tensor, Any], prompts: Sequence[list[int]], ids: Sequence[int]
) -> Tensor:
    """Return the log-probability of each letter, of the letters alone, `(R, K)`.

    Args:
        lm: The language model.
        head: Weight of the language head, and the norm before it.
        prompts: Token ids of each question, its cue at the end.
        ids: Tokens of the letters.
    """
    weight, norm = head
    states = run_packed(lm, prompts, [0] * len(prompts))
    ends_R = torch.tensor([len(p) for p in prompts], device=states.device).cumsum(0) - 1
    return option_logits(states[ends_R], norm, weight, ids).log_softmax(-1)
