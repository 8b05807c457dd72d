"""Work in groups: within a budget of tokens, and in step with other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
BUDGET = 4096  # tokens at a time


def chunks(
    items: Sequence[Item], lengths: Sequence[int], budget: int, *, padded: bool = True
) -> Iterator[list[Item]]:
    """Yield groups of items that stay within a budget of tokens.

    Args:
        items: What to group.
        lengths: Tokens of each item.
        budget: Tokens of a group; an item above it is a group of its own.
        padded: A group costs its longest item for each, so items of like lengths are put together,
            longest first. Else it costs the sum, and the items keep their order.

    Example:
        >>> list(chunks("abcd", [5, 1, 2, 5], 6))
        [['a'], ['d'], ['c', 'b']]
    """
    group: list[Item] = []
    longest = total = 0
    order = sorted(range(len(items)), key=lambda i: -lengths[i]) if padded else range(len(items))
    for i in order:
        total += lengths[i]
        if group and ((len(group) + 1) * longest if padded else total) > budget:
            yield group
            group, total = [], lengths[i]
        longest = longest if group else lengths[i]
        group.append(items[i])
    if group:
        yield group


def in_step(
    items: Sequence[Item], everyone_done: Callable[[bool], bool] = bool
) -> Iterator[tuple[Item, bool]]:
    """Yield items; while other processes have more, yield the last one again, marked False.

    Running a sharded block is a collective, so all processes run the same number of chunks.

    Args:
        items: At least one.
        everyone_done: Says whether all processes have finished, given whether this one has.
    """
    turn = 0
    while not everyone_done(turn >= len(items)):
        yield items[min(turn, len(items) - 1)], turn < len(items)
        turn += 1
