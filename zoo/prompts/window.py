"""What to leave out where a conversation outgrows its window: the oldest pieces."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.errors import InputError


def first_kept(head: int, lengths: Sequence[int], budget: int) -> int:
    """Return the first of the pieces to keep, so that head and pieces stay within a budget.

    Args:
        head: Tokens that are always kept.
        lengths: Tokens of each piece; the last one is always kept.
        budget: Tokens in all.

    Raises:
        InputError: Not even the last piece fits.

    Example:
        >>> first_kept(2, [5, 4, 3], 10)
        1
    """
    total, first = head + sum(lengths), 0
    while total > budget and first < len(lengths) - 1:
        total -= lengths[first]
        first += 1
    if total > budget:
        raise InputError(
            f"a turn of {lengths[-1] if lengths else 0} tokens does not fit the window: "
            f"max_length leaves {budget - head} for it"
        )
    return first
