"""What to leave out where a conversation outgrows its window: the oldest pieces."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.errors import TooLongError


def first_kept(
    head: int, lengths: Sequence[int], budget: int, spare: float = 0.0, *, newest: int = 1
) -> int:
    """Return the first of the pieces to keep, so that head and pieces stay within a budget.

    Args:
        head: Tokens that are always kept.
        lengths: Tokens of each piece.
        budget: Tokens in all.
        spare: Share of what the head leaves to free when something has to go, so that the next
            pieces fit: who reads them one by one starts again once in a while, not at every piece.
        newest: Pieces at the end that are always kept.

    Raises:
        TooLongError: Not even the newest pieces fit.

    Example:
        >>> first_kept(2, [5, 4, 3], 10)
        1
        >>> first_kept(2, [5, 4, 3, 2], 10), first_kept(2, [5, 4, 3, 2], 10, spare=0.5)
        (2, 3)
        >>> first_kept(2, [5, 4, 3, 2], 10, spare=0.5, newest=2)
        2
    """
    total, first = head, 0
    for read, length in enumerate(lengths):
        total += length
        limit = budget - spare * (budget - head) if total > budget else budget
        while total > limit and first < min(read, len(lengths) - newest):
            total -= lengths[first]
            first += 1
    if total > budget:
        raise TooLongError(
            f"a turn of {sum(lengths[-newest:])} tokens does not fit the window: "
            f"max_length leaves {budget - head} for it"
        )
    return first
