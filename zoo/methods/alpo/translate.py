"""Translating blocks, whose number of lines is checked.

A block that comes back with another number of lines is written anew, then in pieces of 5 lines,
then line by line (the release; the number of retries and the single lines are chosen here). A line
that comes back empty or cut off even alone stays as it is, and is counted. Lines of context are
dropped. One process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from zoo.decoding.batching import BUDGET, chunks
from zoo.methods.alpo.prompts import read_line, read_lines
from zoo.methods.alpo.writing import Nucleus, write_lines
from zoo.records import SubtitleBlock
from zoo.records.subtitles import Lines

PIECE = 5


@dataclass(frozen=True)
class Translating:
    """How a translation is written.

    Attributes:
        nucleus: How tokens are drawn.
        retries: How often a block or piece of another number of lines is written anew.
        max_new_tokens: Limit of a block.
    """

    nucleus: Nucleus = field(default_factory=lambda: Nucleus(0.5, 0.7, 30))
    retries: int = 2
    max_new_tokens: int = 1300


def translate(
    model: Any, blocks: Sequence[SubtitleBlock], how: Translating, counts: Counter[str]
) -> list[Lines]:
    """Return the translation of the core of each block, line by line.

    Args:
        model: The translator, in evaluation mode.
        blocks: What to translate.
        how: How it is written.
        counts: Counts blocks by the way that led to whole lines, and lines that stay as they are.
    """
    wholes = _persist(model, blocks, how)
    found: list[Lines] = []
    for block, (lines, retries) in zip(blocks, wholes, strict=True):
        if lines is not None:
            counts["after a retry" if retries else "at once"] += 1
            first = len(block.before)
            found.append(lines[first : first + len(block.source)])
        else:
            counts["in pieces"] += 1
            found.append(_in_pieces(model, block, how, counts))
    return found


def _in_pieces(model: Any, block: SubtitleBlock, how: Translating, counts: Counter[str]) -> Lines:
    """Translate the core in pieces of 5 lines, and one that fails again line by line."""
    found: list[str] = []
    pieces = _pieces(block, PIECE)
    for piece, (lines, _) in zip(pieces, _persist(model, pieces, how), strict=True):
        found += lines or _line_by_line(model, piece, how, counts)
    return tuple(found)


def _line_by_line(
    model: Any, piece: SubtitleBlock, how: Translating, counts: Counter[str]
) -> list[str]:
    """Translate each line alone; the first line that is written counts, with a number or not."""
    found = []
    singles = _pieces(piece, 1)
    for single, text in zip(singles, _write(model, singles, how), strict=True):
        said = read_line(text)
        if not said:
            counts["lines left as they were"] += 1
        found.append(said or single.source[0])
    return found


def _pieces(block: SubtitleBlock, size: int) -> list[SubtitleBlock]:
    """Return the core in pieces without context."""
    return [
        replace(
            block,
            source=block.source[i : i + size],
            target=None,
            before=(),
            after=(),
            target_before=(),
            target_after=(),
            starts=(),
            id=f"{block.id}+{i}",
        )
        for i in range(0, len(block.source), size)
    ]


def _persist(
    model: Any, blocks: Sequence[SubtitleBlock], how: Translating
) -> list[tuple[Lines | None, int]]:
    """Return all lines of each block, None where no attempt was valid, and the retries."""
    found: list[tuple[Lines | None, int]] = [(None, 0)] * len(blocks)
    for attempt in range(how.retries + 1):
        left = [i for i, (lines, _) in enumerate(found) if lines is None]
        if not left:
            break
        for i, text in zip(left, _write(model, [blocks[i] for i in left], how), strict=True):
            found[i] = read_lines(text, 1, len(blocks[i].lines)), attempt
    return found


def _write(model: Any, blocks: Sequence[SubtitleBlock], how: Translating) -> list[str]:
    """Return what the translator writes for each block."""
    encoder = model.encoder()
    prompts = [encoder.prompt(block) for block in blocks]
    written: dict[int, str] = {}
    lengths = [2 * len(prompt) for prompt in prompts]
    with torch.no_grad():
        for group in chunks(range(len(blocks)), lengths, BUDGET):
            decoder = model.new_decoder(len(group))
            decoder.open([prompts[i] for i in group])
            count = 1 + max(len(blocks[i].lines) for i in group)  # one more shows as an error
            rows = write_lines(model, decoder, count, how.nucleus, how.max_new_tokens)
            written |= dict(zip(group, rows, strict=True))
    return [written[i] for i in range(len(blocks))]
