"""Text and turn markers, kept apart: what somebody wrote never becomes a control token.

A turn marker such as `<|im_end|>` is one token that the model obeys. The same letters inside a
user's text are only letters. `Markup` is a text that knows which of its parts are markers, also
after `markup + text` and `text + markup`; `token_ids` gives markers their control tokens and every
other text the tokens of its letters.

A marker that a tokenizer has no control token for (`<|user|>` of Zephyr) is letters in both places,
and the two cannot be told apart; what ends a turn always is a control token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

MARKER = re.compile(r"<[|\uff5c].*[|\uff5c]>")  # the form of markers; some are not called special
SHORT = 200  # characters of a text whose ids are kept
Part = tuple[str, bool]


class Markup(str):
    """A text with turn markers; a new one is all marker.

    Attributes:
        parts: (text, whether it is a marker), in order; joined they are the text.
    """

    parts: tuple[Part, ...]

    def __new__(cls, text: str, parts: Sequence[Part] | None = None) -> Markup:
        """Return `text` as a marker, or with the markers that `parts` names."""
        made = super().__new__(cls, text)
        made.parts = ((text, True),) if parts is None else tuple(parts)
        return made

    def __add__(self, other: str) -> Markup:
        """Append a text; of plain text nothing is a marker."""
        return Markup(str.__add__(self, other), (*self.parts, *parts_of(other)))

    def __radd__(self, other: str) -> Markup:
        """Put a plain text before it."""
        return Markup(str.__add__(other, self), (*parts_of(other), *self.parts))

    def __format__(self, spec: str) -> str:
        """Refuse: a formatted text does not know its markers any more.

        Raises:
            TypeError: Always.
        """
        raise TypeError("join turn markers and text with +, not in a formatted string")


def parts_of(text: str) -> tuple[Part, ...]:
    """Return (text, whether it is a marker) of each part of a text."""
    return text.parts if isinstance(text, Markup) else ((text, False),)


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a text: control tokens for its markers, letters for the rest.

    Text without the name of a control token has the ids that the tokenizer gives it as a whole.

    Args:
        tokenizer: A Hugging Face tokenizer. It adds no special tokens here.
        text: Plain text, or text with markers.
    """
    parts = parts_of(text)
    if len(text) > SHORT:
        return _token_ids(tokenizer, str(text), parts)
    return list(_short(tokenizer, len(tokenizer), str(text), parts))


@lru_cache(maxsize=2**16)
def _short(tokenizer: Any, _size: int, text: str, parts: tuple[Part, ...]) -> tuple[int, ...]:
    """Return the ids of headers, names of classes and the like, which come back in every record."""
    return tuple(_token_ids(tokenizer, text, parts))


def _token_ids(tokenizer: Any, text: str, parts: Sequence[Part]) -> list[int]:
    ids, size = _encode(tokenizer, text), len(tokenizer)
    control = control_ids(tokenizer, size)
    meant = sum(_count(tokenizer, size, part) for part, marks in parts if marks)
    if sum(map(control.__contains__, ids)) == meant and not _names_unknown(tokenizer, parts):
        return ids
    runs: list[Part] = []
    for part, marks in parts:  # neighbours of one kind are one text
        before = runs.pop()[0] if runs and runs[-1][1] == marks else ""
        runs.append((before + part, marks))
    ids = []
    for run, marks in runs:
        if marks:
            ids += _encode(tokenizer, run)
        else:
            ids += letter_ids(tokenizer, run)
    return ids


def _encode(tokenizer: Any, text: str, *, letters: bool = False) -> list[int]:
    """Return the token ids of `tokenizer(text, add_special_tokens=False)`.

    A fast tokenizer is not asked for each token's place in the text: a third of the time.

    Args:
        tokenizer: A Hugging Face tokenizer.
        text: Any text.
        letters: Split the names of tokens called special.
    """
    if not getattr(tokenizer, "is_fast", False):
        split = {"split_special_tokens": True} if letters else {}
        return list(tokenizer(text, add_special_tokens=False, **split)["input_ids"])
    backend = tokenizer.backend_tokenizer  # its settings are those of the call before
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = letters or bool(tokenizer.split_special_tokens)
    return list(backend.encode_batch_fast([text], add_special_tokens=False)[0].ids)


def letter_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a text in which names of control tokens stand for their letters."""
    ids = _encode(tokenizer, text, letters=True)
    control = control_ids(tokenizer, len(tokenizer))
    found = sorted(tokenizer.convert_ids_to_tokens(token) for token in control.intersection(ids))
    if not found:  # those not called special are found even so: cut their names
        return ids
    names = "|".join(re.escape(name[1:]) for name in found)
    pieces = re.split(rf"(?={names})", text)
    return [t for piece in pieces if piece for t in _encode(tokenizer, piece, letters=True)]


@lru_cache(maxsize=64)
def control_ids(tokenizer: Any, _size: int) -> frozenset[int]:
    """Return the ids of a tokenizer's control tokens: those called special, and turn markers.

    The token for unknown letters is not among them. `_size` is the tokenizer's, which may grow.
    """
    added = tokenizer.added_tokens_decoder.items()
    ids = {i for i, token in added if token.special or MARKER.fullmatch(token.content)}
    return frozenset(ids - {tokenizer.unk_token_id})


@lru_cache(maxsize=4096)
def _count(tokenizer: Any, size: int, marker: str) -> int:
    """Return the number of control tokens in a marker."""
    ids = _encode(tokenizer, marker)
    return sum(map(control_ids(tokenizer, size).__contains__, ids))


def _names_unknown(tokenizer: Any, parts: Sequence[Part]) -> bool:
    """Return whether plain text holds the name of the token for unknown letters."""
    name = tokenizer.unk_token
    return bool(name) and any(name in part for part, marks in parts if not marks)
