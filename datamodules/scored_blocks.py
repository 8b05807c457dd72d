"""Scored candidates of subtitle segments, as `python -m zoo.methods.alpo sample` writes them.

A JSON object a line: `block` with the fields of `SubtitleBlock`, and `segments`, each with
`candidates` (a list of translations, each a list of lines; the first one is the reference) and
`scores` (a number from 0 to 100 for each, or null: no verdict).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from datamodules.files import field, objects, text_field
from datamodules.json_files import read_each
from datamodules.split_files import SplitFiles
from datamodules.subtitle_segments import check_starts
from datamodules.tables import only
from zoo.errors import InputError
from zoo.records import ScoredBlock, ScoredSegment, SubtitleBlock

LINES = ("before", "after", "target_before", "target_after")
BLOCK_FIELDS = tuple(item.name for item in fields(SubtitleBlock))


class ScoredBlocks(SplitFiles):
    """Blocks of subtitles with scored candidates as `ScoredBlock` records.

    Without `val`, a tenth of the blocks of `train` is for validation. Translations are tested on
    `datamodules.Subtitles`.

    Args:
        **files: A file a split, batches, limits and seed; see `SplitFiles`.
    """

    record_types = (ScoredBlock,)
    sample = "scored_blocks.jsonl"

    def group_of(self, record: Any) -> str:
        """Return the name of the block."""
        return record.id

    def read_file(self, path: Path) -> list[ScoredBlock]:
        """Return the scored blocks of a file."""
        return read_scored(path)


def read_scored(path: Path) -> list[ScoredBlock]:
    """Return the scored blocks of a file.

    Raises:
        InputError: A line is bad; names file, line and field.
    """
    return list(read_each(path, lambda item, where, _: scored_block(item, where)))


def scored_block(item: Mapping[str, Any], where: str) -> ScoredBlock:
    """Return the scored block that a JSON object holds.

    Raises:
        InputError: A field is missing or bad, or the candidates do not fit the block.
    """
    only(item, ("block", "segments"), where)
    block = _block(field(item, "block", dict, where), f"{where}: block")
    places = list(objects(item, "segments", where))
    if len(places) != len(block.spans):
        raise InputError(f"{where}: {len(places)} segments, but the block has {len(block.spans)}")
    target = block.target or ()
    segments = tuple(
        _segment(segment, target[start:stop], place)
        for (place, segment), (start, stop) in zip(places, block.spans, strict=True)
    )
    return ScoredBlock(block, segments)


def _block(item: Mapping[str, Any], where: str) -> SubtitleBlock:
    only(item, BLOCK_FIELDS, where)
    source, target = _lines(item, "source", where), _lines(item, "target", where)
    around: dict[str, Any] = {
        name: _lines(item, name, where) if name in item else () for name in LINES
    }
    if not source:
        raise InputError(f"{where}: field 'source' is empty")
    for one, other in (("before", "target_before"), ("after", "target_after")):
        if len(around[one]) != len(around[other]):
            raise InputError(f"{where}: {one!r} and {other!r} must have as many lines")
    if len(target) != len(source):
        raise InputError(f"{where}: {len(target)} lines in 'target', {len(source)} in 'source'")
    starts = field(item, "starts", list, where) if item.get("starts") else []
    texts: dict[str, Any] = {
        name: field(item, name, str, where)
        for name in ("source_language", "target_language")
        if name in item
    }
    terms = field(item, "terms", list, where) if "terms" in item else []
    return SubtitleBlock(
        source=source,
        target=target,
        starts=check_starts(starts, len(source), where) if starts else (),
        terms=tuple(_term(term, where) for term in terms),
        id=text_field(item, "id", where),
        index=field(item, "index", int, where) if "index" in item else 0,
        **around,
        **texts,
    )


def _term(value: Any, where: str) -> tuple[str, str, str]:
    match value:
        case [str(source), str(kind), str(target)]:
            return source, kind, target
    raise InputError(f"{where}: a term must be a list of three strings, found {value!r}")


def _segment(item: Mapping[str, Any], reference: tuple[str, ...], where: str) -> ScoredSegment:
    only(item, ("candidates", "scores"), where)
    listed = field(item, "candidates", list, where)
    candidates = tuple(
        _lines({f"candidates[{i}]": lines}, f"candidates[{i}]", where)
        for i, lines in enumerate(listed)
    )
    if candidates[:1] != (reference,):
        raise InputError(f"{where}: candidates[0] must be the reference, the lines of 'target'")
    if len(set(candidates)) < len(candidates):
        raise InputError(f"{where}: a candidate is there twice")
    for i, lines in enumerate(candidates):
        if len(lines) != len(reference):
            raise InputError(
                f"{where}: candidates[{i}] has {len(lines)} lines, expected {len(reference)}"
            )
    return ScoredSegment(candidates, _scores(item, len(candidates), where))


def _scores(item: Mapping[str, Any], count: int, where: str) -> tuple[float, ...] | None:
    if item.get("scores") is None:
        return None
    scores = field(item, "scores", list, where)
    if len(scores) != count:
        raise InputError(f"{where}: {len(scores)} scores of {count} candidates")
    for i, score in enumerate(scores):
        if not isinstance(score, int | float) or isinstance(score, bool) or not 0 <= score <= 100:
            raise InputError(f"{where}: scores[{i}] is {score!r}, no number from 0 to 100")
    return tuple(map(float, scores))


def _lines(item: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    """Return a field that lists lines; none of them is empty or holds a line break."""
    lines = field(item, name, list, where)
    for i, line in enumerate(lines):
        if not isinstance(line, str) or not line.strip() or "\n" in line:
            raise InputError(f"{where}: {name}[{i}] must be a line of text that is not empty")
    return tuple(lines)
