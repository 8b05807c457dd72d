"""Headings in files of principles: two defects of those that come with DailyDilemmas, mended.

Where the headings are shifted by one row, each text gets its own: a row holds the heading of the
row before it. A row that is the heading of the section below it is no principle and is left out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace

from zoo.errors import SaidOnce
from zoo.records import PrincipleText

log = logging.getLogger(__name__)
log.addFilter(SaidOnce())

SECTIONS = {"rules", "defaults"}
"""Sources of the file of principles whose headings are shifted by one row."""

HEADING = re.compile(r"([^.\n-]+)-(\S.*)", re.DOTALL)
SECTION_HEADING = "Principles {source}"
"""A row that says this of the next row's source, and nothing else, is a section's heading."""


def mended(rows: Sequence[PrincipleText]) -> list[PrincipleText]:
    """Return the principles among the rows of a file, each with its own heading."""
    below = [*(row.source for row in rows[1:]), None]
    kept = []
    for row, source in zip(rows, below[: len(rows)], strict=True):
        if source is not None and _is_section_heading(row, source):
            log.warning("%s is the heading of %r, no principle: left out", row.id, source)
        else:
            kept.append(row)
    return _realigned(kept)


def _is_section_heading(row: PrincipleText, below: str) -> bool:
    heading = SECTION_HEADING.format(source=below)
    return row.source != below and row.text.casefold() == heading.casefold()


def _realigned(rows: list[PrincipleText]) -> list[PrincipleText]:
    """Return texts with their own headings, `heading: text`, where those are one row too low.

    That is so if all sources are the sections of that file, and each row but the first has a
    heading, which a hyphen without blanks ends. The last text is left without one.
    """
    found = [HEADING.fullmatch(row.text) for row in rows]
    shifted = {row.source for row in rows} <= SECTIONS and len(rows) > 1 and not found[0]
    if not shifted or not all(found[1:]):
        return rows
    parts = [hit.groups() if hit else ("", row.text) for hit, row in zip(found, rows, strict=True)]
    headings = [*(heading for heading, _ in parts[1:]), ""]
    return [
        replace(row, text=f"{heading}: {text}" if heading else text)
        for row, heading, (_, text) in zip(rows, headings, parts, strict=True)
    ]
