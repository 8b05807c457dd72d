"""Subtitle files, checked: pysubs2 reads and writes them, and passes over what it cannot read.

It takes a time that is broken, or a number whose time is missing, for a line of text, so a subtitle
would vanish into the one before. Here that is an error with file and line, as are bytes in another
encoding.

A number after an empty line may also be text ("How many?", an empty line, "3"). It is taken for
that of a subtitle without a time if it lies between the numbers of the subtitles around it, or if
these do not rise. Where no subtitle has a number, it is text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pysubs2

from zoo.errors import InputError, nearest
from zoo.records.subtitle_markup import (
    SUBRIP,
    shown,
    with_stand_ins,
    without_stand_ins,
)

FORMATS = {".srt": "srt", ".vtt": "vtt", ".ass": "ass", ".ssa": "ssa"}
"""Suffix -> pysubs2's name of the format."""

_ARROW = "-->"
_TIMES = {
    "srt": r"(\d{1,2}):([0-5]?\d):([0-5]?\d)[,.]\d{1,3}",
    "vtt": r"(\d{2,4}:)?([0-5]\d):([0-5]\d)\.\d{3}",
    "ass": r"\d{1,2}:[0-5]?\d:[0-5]?\d[.,]\d{1,3}",
}
_EXAMPLES = {
    "srt": "00:00:01,000 --> 00:00:02,500",
    "vtt": "00:00:01.000 --> 00:00:02.500",
    "ass": "0:00:01.00,0:00:02.50",
}


@dataclass(frozen=True, slots=True)
class Cue:
    """A subtitle: when it is shown, in milliseconds, and its text in one line."""

    start: int
    end: int
    text: str


def decode(data: bytes, where: str, encoding: str = "utf-8") -> str:
    r"""Return the text of a file, with "\n" at the ends of lines and no byte order mark.

    Raises:
        InputError: It is not in this encoding, or the file is empty; names file, line and byte. Or
            there is no such encoding.
    """
    check_encoding(encoding)
    if encoding.lower() in ("utf-8", "utf8") and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{where}:1: not UTF-8 but UTF-16; set data.encoding to utf-16")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{data[error.start]:02x}"
        raise InputError(
            f"{where}:{line}: not {encoding}: {byte}; set data.encoding to the file's own, for "
            f"example gb18030 or cp1252"
        ) from error
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise InputError(f"{where}: the file is empty")
    return text


def check_encoding(encoding: str) -> None:
    """Refuse an encoding that Python does not know.

    Raises:
        InputError: There is none of this name.
    """
    try:
        "".encode(encoding)
    except LookupError as error:
        raise InputError(f"data.encoding: Python knows none of the name {encoding!r}") from error


def format_of(path: Path) -> str:
    """Return pysubs2's name of a subtitle file's format.

    Raises:
        InputError: The suffix is of none.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"{path}: no subtitle file by its suffix; {nearest(suffix, FORMATS)}")
    return FORMATS[suffix]


def parse(text: str, where: Path) -> pysubs2.SSAFile:
    """Return a subtitle file that was decoded.

    Args:
        text: All of it.
        where: Its path, whose suffix says the format.

    Raises:
        InputError: A time is broken, a subtitle ends before it starts, or there is none.
    """
    kind = format_of(where)
    rows = text.split("\n")
    for number, line in enumerate(rows, start=1):
        problem = _problem(line, kind)
        if problem:
            raise InputError(f"{where}:{number}: {problem}")
    try:
        subtitles = _read(text, kind)
    except (pysubs2.Pysubs2Error, ValueError) as error:
        raise InputError(f"{where}: cannot be read as {kind}: {error}") from error
    for event in subtitles:
        if event.end < event.start:
            at = pysubs2.time.ms_to_str(event.start, fractions=True)
            raise InputError(f"{where}: the subtitle at {at} ends before it starts")
    if not texts(subtitles):
        raise InputError(f"{where}: there is no subtitle with a text in it")
    number = _without_time(rows) if kind in SUBRIP else 0
    if number:
        raise InputError(
            f"{where}:{number}: no time after the number of this subtitle; expected "
            f"{_EXAMPLES[kind]}"
        )
    return subtitles


def texts(subtitles: pysubs2.SSAFile) -> list[pysubs2.SSAEvent]:
    """Return the subtitles that show a text, in the order of the file."""
    return [event for event in subtitles if event.is_text and shown(event)]


def cues(subtitles: pysubs2.SSAFile) -> list[Cue]:
    """Return the subtitles that show a text, by the time when they appear."""
    found = [Cue(e.start, e.end, shown(e)) for e in texts(subtitles)]
    return sorted(found, key=lambda cue: cue.start)


def write(subtitles: pysubs2.SSAFile, kind: str) -> tuple[str, list[str]]:
    """Return subtitles as the text of a file, and what it shows.

    Args:
        subtitles: What to write; those of `.vtt` are put in order of time.
        kind: pysubs2's name of the format.

    Returns:
        The text, and for each subtitle that is one of text, in the order of `subtitles`, the line
        that is read from there.
    """
    if kind == "vtt":
        subtitles.events.sort(key=lambda event: event.start)  # as pysubs2 writes it
    text = without_stand_ins(subtitles.to_string(kind))
    return text, [shown(event) for event in _read(text, kind) if event.is_text]


def _read(text: str, kind: str) -> pysubs2.SSAFile:
    if kind in SUBRIP:
        text = with_stand_ins(text)
        text += "\n\n0\n"  # pysubs2 drops a number at the end of a text, as the next one's
    return pysubs2.SSAFile.from_string(text, format_=kind)


def _problem(line: str, kind: str) -> str:
    """Return what is wrong with the times of a line; empty if nothing is, or it has none."""
    if kind in SUBRIP:
        if _ARROW not in line:
            return ""
        left, _, right = line.partition(_ARROW)
        times = [left.strip(), right.strip()]
        ends = [r"", r"(\s.*)?"]
    else:
        name, colon, _ = line.partition(":")
        if not colon or name.strip().lower() != "dialogue":
            return ""
        if name.strip() != "Dialogue" or name[-1].isspace():  # players pass over it, too
            return f"{name + colon!r} is no subtitle; write 'Dialogue:'"
        times = [part.strip() for part in line.split(",", 9)[1:3]]
        if line.count(",") < 9:
            return f"{line.count(',') + 1} fields, expected 10: {line[:60]!r}"
        kind, ends = "ass", ["", ""]
    pattern = _TIMES[kind]
    if all(re.fullmatch(pattern + end, time) for time, end in zip(times, ends, strict=True)):
        return ""
    return f"broken time {line.strip()[:60]!r}; expected {_EXAMPLES[kind]}"


def _without_time(rows: list[str]) -> int:
    """Return the line, from 1, of the first number of a subtitle that has no time; 0 if none."""
    filled = [i for i, row in enumerate(rows) if row.strip()]
    following = dict(zip(filled, [*filled[1:], None], strict=True))
    alone: list[tuple[int, int]] = []  # numbers without a time since the last one that has one
    before = None
    for i in filled:
        if not re.fullmatch(r"\s*\d+\s*", rows[i]) or (i > 0 and rows[i - 1].strip()):
            continue
        number, after = int(rows[i]), following[i]
        if after is None or _ARROW not in rows[after]:
            alone.append((i, number))
            continue
        for line, other in alone:
            if before is None or number <= before or before < other < number:
                return line + 1
        before, alone = number, []
    return next((line + 1 for line, n in alone if before is not None and n > before), 0)
