"""From an episode to blocks: cores of whole segments, with context lines on both sides."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import replace

from zoo.records.subtitles import SubtitleBlock

CORE, CONTEXT = 25, 5


def cut(
    episode: SubtitleBlock, core: int = CORE, context: int = CONTEXT, first: int = 0
) -> list[SubtitleBlock]:
    """Return the blocks of an episode; every line is in the core of one of them.

    Args:
        episode: All lines of an episode as one block without context.
        core: Lines of a core: so many, and more up to the end of a segment. The last one of an
            episode has what is left.
        context: Lines before and after, and more up to a segment's border; at an episode's end
            there are fewer or none.
        first: `index` of the first block.
    """
    starts = episode.starts or tuple(range(len(episode.source)))
    borders = (*starts, len(episode.source))
    blocks: list[SubtitleBlock] = []
    begin = 0
    while begin < len(episode.source):
        end = _up(borders, begin + core)
        left, right = _down(borders, begin - context), _up(borders, end + context)
        inner = tuple(start - begin for start in episode.starts if begin <= start < end)
        target = episode.target
        blocks.append(
            replace(
                episode,
                source=episode.source[begin:end],
                before=episode.source[left:begin],
                after=episode.source[end:right],
                target=None if target is None else target[begin:end],
                target_before=() if target is None else target[left:begin],
                target_after=() if target is None else target[end:right],
                starts=inner,
                id=f"{episode.id}:{begin + 1}",
                index=first + len(blocks),
            )
        )
        begin = end
    return blocks


def _up(borders: tuple[int, ...], line: int) -> int:
    """Return the first border that is not before a line; the last one if there is none."""
    return borders[min(bisect_left(borders, line), len(borders) - 1)]


def _down(borders: tuple[int, ...], line: int) -> int:
    """Return the last border that is not after a line; 0 if there is none."""
    return borders[max(bisect_right(borders, line) - 1, 0)]
