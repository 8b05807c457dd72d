"""Skepticism labels of texts and answers, made by a language model before training (LaMsS).

A *level* is an index 0 ... N-1, from no doubt to full doubt. The levels of tokens are quantiles of
u_t = 1 - p0(x_t | x_<t) over a split, or come from annotated spans; the level of an answer says
whether it is right.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from zoo.errors import InputError
from zoo.records import PlainText

Span = tuple[int, int]


@dataclass
class Studied:
    """Token ids of a record and their labels.

    Attributes:
        pieces: What is learned: parts of a text, or the gold answer alone.
        levels: Level of each token of the pieces.
        response: The model's own answer to a question, closed with the stop token.
        response_levels: Level of each token of it.
        level: Level of it as a whole.
        copies: How often the second pass is shown.
        query_levels: Level of each token before the answer; empty if they have none.
    """

    pieces: list[list[int]]
    levels: list[list[int]] = field(default_factory=list)
    response: list[int] = field(default_factory=list)
    response_levels: list[int] = field(default_factory=list)
    level: int = 0
    copies: int = 0
    query_levels: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.levels = self.levels or nothing(self.pieces)
        self.response_levels = self.response_levels or nothing([self.response])[0]


def study_texts(
    texts: Sequence[PlainText],
    ids: Sequence[Sequence[int]],
    size: int,
    grade: Callable[[list[list[int]]], list[list[int]]],
) -> dict[PlainText, Studied]:
    """Return the pieces and levels of each text.

    Args:
        texts: The texts of a split.
        ids: Token ids of each.
        size: Longest piece in tokens; the last token of a text is left out if it would be alone.
        grade: Returns the levels of all pieces of the split.

    Raises:
        InputError: A text has fewer than two tokens.
    """
    pieces_by_text = []
    for record, row in zip(texts, ids, strict=True):
        if len(row) < 2:
            raise InputError(f"{record.id or 'text'}: fewer than two tokens, nothing to learn")
        pieces = [list(row[i : i + size]) for i in range(0, len(row), size)]
        pieces_by_text.append([piece for piece in pieces if len(piece) > 1])
    levels = iter(grade([piece for pieces in pieces_by_text for piece in pieces]))
    return {
        record: Studied(pieces, [next(levels) for _ in pieces])
        for record, pieces in zip(texts, pieces_by_text, strict=True)
    }


def balance(studied: Sequence[Studied]) -> int:
    """Repeat the rarer kind of second pass until right and wrong answers are equally many.

    Returns:
        How many are of the rarer kind; with 0 there is nothing to repeat.
    """
    right = [question for question in studied if question.level == 0]
    wrong = [question for question in studied if question.level > 0]
    few, many = sorted([right, wrong], key=len)
    for i, question in enumerate(few):
        question.copies = len(many) // len(few) + (i < len(many) % len(few))
    return len(few)


def interleave(ids: Sequence[int], levels: Sequence[int]) -> list[int]:
    """Return x_1 s_1 ... x_n s_n.

    Example:
        >>> interleave([5, 6], [90, 91])
        [5, 90, 6, 91]
    """
    return [token for pair in zip(ids, levels, strict=True) for token in pair]


def quantile_edges(doubts: Sequence[Sequence[float]], num_levels: int) -> list[float]:
    """Return the largest value of each of N equally large parts but the last, ascending.

    Example:
        >>> quantile_edges([[0.1, 0.9], [0.5, 0.2]], 2)
        [0.2]
    """
    values = sorted(u for row in doubts for u in row)
    if not values:
        return []
    return [values[max(0, -(-len(values) * j // num_levels) - 1)] for j in range(1, num_levels)]


def levels_of(doubts: Sequence[Sequence[float]], edges: Sequence[float]) -> list[list[int]]:
    """Return the level of each value: how many edges lie below it. Equal values have one level.

    Example:
        >>> levels_of([[0.1, 0.9], [0.5, 0.2]], [0.2])
        [[0, 1], [1, 0]]
    """
    return [[bisect.bisect_left(edges, u) for u in row] for row in doubts]


def span_levels(record: PlainText, offsets: Sequence[Span], num_levels: int) -> list[int]:
    """Return each token's level: that of the most doubtful span which it touches, else 0.

    Args:
        record: A text with spans.
        offsets: First character of each token, and one past its last.
        num_levels: N; a doubt of 1 is level N - 1.
    """
    levels = []
    for start, stop in offsets:
        touched = [doubt for a, b, doubt in record.doubt if a < stop and start < b]
        levels.append(round(max(touched, default=0.0) * (num_levels - 1)))
    return levels


def nothing(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return level 0 for every token."""
    return [[0] * len(row) for row in rows]
