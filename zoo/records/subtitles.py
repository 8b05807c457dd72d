"""Subtitles: blocks of lines with their translation, and candidates of their segments with scores.

A block is what is translated at once: its own lines (the core) and some lines around them, which
are translated too and then dropped. A segment is a run of core lines that is sampled, scored and
preferred as one. Candidate 0 of a segment is the translation that a person wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

Lines = tuple[str, ...]
Term = tuple[str, str, str]
"""A term of the source, its type (a name, a place, ...; may be empty), and its translation."""


@dataclass(frozen=True, slots=True)
class SubtitleBlock:
    """Lines of one episode that are translated together.

    Attributes:
        source: The core: the lines to translate, in order; none is empty.
        target: Their translation, line by line; None if there is none.
        before: Source lines just before the core; fewer or none at the start of an episode.
        after: Source lines just after the core.
        target_before: The translation of `before`, line by line; empty without `target`.
        target_after: The translation of `after`.
        starts: Positions in `source` where a segment begins, rising from 0; empty if each line is
            a segment of its own.
        terms: Terms whose translation is given.
        source_language: Code of the source language, for example `zh`.
        target_language: Code of the target language, for example `en`.
        id: Where it comes from, for example `12.zh:26` (file and first core line).
        index: Number of the block in its split, which seeds what is drawn at random for it.
    """

    source: Lines
    target: Lines | None = None
    before: Lines = ()
    after: Lines = ()
    target_before: Lines = ()
    target_after: Lines = ()
    starts: tuple[int, ...] = ()
    terms: tuple[Term, ...] = ()
    source_language: str = ""
    target_language: str = ""
    id: str = ""
    index: int = 0

    @property
    def lines(self) -> Lines:
        """All source lines, context and core, in the order in which they are translated."""
        return (*self.before, *self.source, *self.after)

    @property
    def translation(self) -> Lines | None:
        """The translation of all `lines`; None if there is none."""
        if self.target is None:
            return None
        return (*self.target_before, *self.target, *self.target_after)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and one past the last core line of each segment, in order."""
        starts = self.starts or tuple(range(len(self.source)))
        return list(pairwise((*starts, len(self.source))))


@dataclass(frozen=True, slots=True)
class ScoredSegment:
    """The candidates of one segment.

    Attributes:
        candidates: Different translations, each with as many lines as the segment; the first one
            is the reference.
        scores: A score for each candidate, 0 to 100; None if the judge gave no verdict.
    """

    candidates: tuple[Lines, ...]
    scores: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class ScoredBlock:
    """A block with the candidates of each of its segments.

    Attributes:
        block: The block; it has a `target`.
        segments: One for each of `block.spans`, in order: they cover the core and nothing else.
            What stands before the first one in a translation is `block.target_before`.
    """

    block: SubtitleBlock
    segments: tuple[ScoredSegment, ...]

    @property
    def id(self) -> str:
        """Where it comes from."""
        return self.block.id
