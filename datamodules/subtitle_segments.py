"""Files of segments: where the segments of an episode begin, a JSON object a line.

{"id": "train/night", "lines": 3, "starts": [0, 2]}

`text`, the digest of the lines, is there for `segment` and may be missing.
"""

from __future__ import annotations

from pathlib import Path

from datamodules.files import field, text_field
from datamodules.json_files import read_objects
from datamodules.tables import only
from zoo.errors import InputError

FIELDS = ("id", "lines", "starts", "text")


def read_starts(path: Path) -> dict[str, tuple[tuple[int, ...], int]]:
    """Return, for each episode, the first line of each segment, from 0, and the number of lines.

    Raises:
        InputError: A line is bad, or an episode is there twice.
    """
    found: dict[str, tuple[tuple[int, ...], int]] = {}
    for place, item in read_objects(path):
        where = f"{path}:{place}"
        only(item, FIELDS, where)
        name, lines = text_field(item, "id", where), field(item, "lines", int, where)
        starts = field(item, "starts", list, where)
        if name in found:
            raise InputError(f"{where}: the episode {name!r} is there twice")
        found[name] = check_starts(starts, lines, where), lines
    return found


def check_starts(starts: list[object], lines: int, where: str) -> tuple[int, ...]:
    """Return positions where segments begin.

    Raises:
        InputError: They do not rise from 0, or go beyond the lines.
    """
    numbers = [start for start in starts if type(start) is int]
    rising = all(a < b for a, b in zip(numbers, numbers[1:], strict=False))
    if len(numbers) < len(starts) or numbers[:1] != [0] or not rising or numbers[-1] >= lines:
        raise InputError(
            f"{where}: 'starts' must rise from 0 to below {lines}, the number of lines"
        )
    return tuple(numbers)
