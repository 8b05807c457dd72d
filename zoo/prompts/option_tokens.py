"""Labels of options as single tokens, checked where they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoo.errors import InputError
from zoo.markup import token_ids

SUGGESTION = "use labels of one token each, such as A and B"


def option_ids(
    tokenizer: Any, labels: Sequence[str], after: str, *, key: str = "model.labels"
) -> list[int]:
    """Return the token of each label at the place where it is read.

    A label of several tokens is refused: comparing it would take a pass per further token, and its
    parts are often shared (`<T>` and `<F>` begin alike).

    Args:
        tokenizer: A Hugging Face tokenizer.
        labels: Labels as they are written, for example `A` or ` A`.
        after: Text right before a label.
        key: Setting that the labels come from, for errors.

    Raises:
        InputError: A label is not one known token, two labels are the same token, or a label
            becomes another token after `after`.
    """
    before = token_ids(tokenizer, after)
    label_of: dict[int, str] = {}
    for label in labels:
        own = token_ids(tokenizer, label)
        if len(own) != 1 or own[0] == tokenizer.unk_token_id:
            parts = ", ".join(repr(tokenizer.decode([token])) for token in own) or "nothing"
            raise InputError(
                f"{key}: {label!r} is {len(own)} tokens of this tokenizer ({parts}); {SUGGESTION}"
            )
        if token_ids(tokenizer, after + label) != [*before, *own]:
            raise InputError(
                f"{key}: {label!r} is another token after {after[-12:]!r}, where it is read; write "
                f"it with or without a leading blank"
            )
        if own[0] in label_of:
            raise InputError(
                f"{key}: {label_of[own[0]]!r} and {label!r} are the same token; {SUGGESTION}"
            )
        label_of[own[0]] = label
    return list(label_of)


def letter(index: int) -> str:
    """Return A, B, C, ... for 0, 1, 2, ..."""
    return chr(ord("A") + index)
