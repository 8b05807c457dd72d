"""Where the segments of an episode begin: at every line, or where a judge says that one does.

The paper speaks of lines, the release's unit is the *semantic segment*: a run of lines, of which a
language model has tagged all but the first as coherent with the line before. Here the tag is the
likelier of two answers, given up to `SEEN` lines.
"""

from __future__ import annotations

from zoo.errors import InputError
from zoo.judges.judge import Judge
from zoo.methods.alpo.rubric import COHERENT, INCOHERENT, goes_on
from zoo.records import SubtitleBlock

SEEN = 6


def line_starts(episode: SubtitleBlock) -> tuple[int, ...]:
    """Return that a segment begins at every line."""
    return tuple(range(len(episode.source)))


def semantic_starts(
    episode: SubtitleBlock, judge: Judge, max_lines: int | None = None
) -> tuple[int, ...]:
    """Return the lines where a segment begins.

    Args:
        episode: All lines of an episode.
        judge: Whom to ask about each line.
        max_lines: Longest segment; None for no limit.

    Raises:
        InputError: The lines do not fit the judge's window.
    """
    starts = [0]
    for i in range(1, len(episode.source)):
        messages = goes_on(episode.source[max(0, i + 1 - SEEN) : i + 1], episode.source_language)
        if not judge.fits(messages):
            raise InputError(f"{episode.id}: line {i + 1} does not fit the judge's window")
        coherent, incoherent = judge.score(messages, (COHERENT, INCOHERENT))
        if incoherent > coherent or i - starts[-1] == max_lines:
            starts.append(i)
    return tuple(starts)
