"""Decoding that can only end in one of a row's choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def only(
    choices: Sequence[Sequence[Sequence[int]] | None], stop_id: int
) -> Callable[[int, list[int]], list[int] | None]:
    """Return what may follow in each row: the next token of a choice, or the stop token after one.

    Args:
        choices: For each row, the token ids of its choices; an empty row may only stop, and in a
            row of None anything may follow.
        stop_id: Token that ends a row.

    Example:
        >>> allowed = only([[[1, 0], [1, 2], [3]]], stop_id=9)
        >>> allowed(0, []), allowed(0, [1]), allowed(0, [3])
        ([1, 3], [0, 2], [9])
    """

    def allowed(row: int, found: list[int]) -> list[int] | None:
        n, listed = len(found), choices[row]
        if listed is None:
            return None
        fitting = [[*choice, stop_id] for choice in listed if list(choice[:n]) == found]
        following = [choice[n] for choice in fitting if len(choice) > n]
        return sorted(set(following)) or [stop_id]

    return allowed
