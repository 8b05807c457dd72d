"""What to leave out where a conversation outgrows its window: the oldest pieces."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.errors import TooLongError


def first_kept(head: int, lengths: Sequence[int], budget: int, spare: float = 0.0) -> int:
    """Return the first of the pieces to keep, so that head and pieces stay within a budget.

    Args:
        head: Tokens that are always kept.
        lengths: Tokens of each piece; the last one is always kept.
        budget: Tokens in all.
        spare: Share of what the head leaves to free when something has to go, so that the next
            pieces fit: who reads them one by one starts again once in a while, not at every piece.

    Raises:
        TooLongError: Not even the last piece fits.

    Example:
        >>> first_kept(2, [5, 4, 3], 10)
        1
        >>> first_kept(2, [5, 4, 3, 2], 10), first_kept(2, [5, 4, 3, 2], 10, spare=0.5)
        (2, 3)
    """
    total, first = head, 0
    for last, length in enumerate(lengths):
        total += length
        limit = budget - spare * (budget - head) if total > budget else budget
        while total > limit and first < last:
            total -= lengths[first]
            first += 1
    if total > budget:
        raise TooLongError(
            f"a turn of {lengths[-1] if lengths else 0} tokens does not fit the window: "
            f"max_length leaves {budget - head} for it"
        )
    return first
