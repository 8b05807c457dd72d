"""Episodes in two languages: which files belong together, and which of their lines.

A file belongs to a language by its name (`night.zh.srt`, `12.en`, `dev.original.zh`) or its folder
(`zh/night.srt`); what is left of its path is the episode. Files of no language asked for are not
read. A tar archive is read like a folder.

Subtitle files (`.srt`, `.ass`, `.ssa`, `.vtt`) are joined by time: a line and the nearest one of
the other language that appears at most 0.7 s before or after it; a line without such a partner is
left out. Other files hold a line a subtitle, the same number in both languages; a pair with an
empty side is left out.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.streams import hidden, open_bytes
from zoo.errors import InputError
from zoo.records.subtitle_files import FORMATS, Cue, cues, decode, parse
from zoo.records.subtitle_markup import one_line

TOLERANCE = 700  # milliseconds
ARCHIVES = (".tar", ".tar.gz", ".tgz")
SPLIT_WORDS = {
    "train": "train",
    "dev": "val",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class Track:
    """A file of one language.

    Attributes:
        episode: Its path in the data folder without the language.
        language: Code of the language.
        path: Where it lies, for errors; its suffix says the format.
        data: Its bytes.
    """

    episode: str
    language: str
    path: Path
    data: bytes

    @property
    def split(self) -> str:
        """The split that a folder, an archive or the file is named after; empty if none is."""
        words = [re.split(r"[^a-zA-Z]", part)[0].lower() for part in self.episode.split("/")]
        return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "")


@dataclass(frozen=True, slots=True)
class Paired:
    """The lines of an episode that have a partner.

    Attributes:
        episode: Name of the episode.
        split: Its split; empty if its path names none.
        source: Lines of the source language.
        target: Their partners.
        lost: Lines of both languages that have none.
    """

    episode: str
    split: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    lost: int


def tracks(folder: Path, languages: Sequence[str]) -> list[Track]:
    """Return the files of some languages in a folder, at any depth, by path.

    Raises:
        InputError: There is no such folder, no such file, or an archive is damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: list[Track] = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if hidden(inside) or not path.is_file():
            continue
        if path.name.lower().endswith(ARCHIVES):
            found += _members(path, inside, languages)
            continue
        named = _named(inside, languages)
        if named is not None:
            with open_bytes(path) as stream:
                found.append(Track(*named, path, stream.read()))
    if not found:
        names = " or ".join(f"name.{code}.srt" for code in languages)
        raise InputError(f"{folder}: no file is named by a language: {names}, or in a folder of it")
    return found


def pairs(
    found: Sequence[Track], source: str, target: str
) -> Iterator[tuple[Track | None, Track | None]]:
    """Yield the two files of each episode; None for one that is missing.

    Raises:
        InputError: An episode has two files of one language.
    """
    episodes: dict[str, dict[str, Track]] = {}
    for track in found:
        others = episodes.setdefault(track.episode, {})
        if track.language in others:
            raise InputError(
                f"{track.path}: {others[track.language].path} is of the same episode and language; "
                f"keep one"
            )
        others[track.language] = track
    for both in episodes.values():
        yield both.get(source), both.get(target)


def paired(source: Track | None, target: Track | None, encoding: str) -> Paired:
    """Return the lines of an episode that have a partner.

    Raises:
        InputError: A file is missing or bad, the numbers of lines differ, or of subtitle files less
            than half of the lines have a partner.
    """
    if source is None or target is None:
        (one,) = [track for track in (source, target) if track is not None]
        raise InputError(f"{one.path}: the episode has no file of the other language")
    timed = [track.path.suffix.lower() in FORMATS for track in (source, target)]
    if timed[0] != timed[1]:
        raise InputError(f"{target.path}: one file of the episode has times, {source.path} has not")
    texts = [decode(track.data, str(track.path), encoding) for track in (source, target)]
    if all(timed):
        sides = [cues(parse(text, t.path)) for text, t in zip(texts, (source, target), strict=True)]
        joined = aligned(*sides)
        total = max(map(len, sides))
        if 2 * len(joined) < total:
            raise InputError(
                f"{target.path}: only {len(joined)} of {total} lines appear within "
                f"{TOLERANCE / 1000} s of a line of {source.path}; are both of one cut?"
            )
        lost = sum(map(len, sides)) - 2 * len(joined)
    else:
        joined, lost = _parallel(source, target, texts)
    return Paired(
        source.episode,
        source.split,
        tuple(line for line, _ in joined),
        tuple(line for _, line in joined),
        lost,
    )


def aligned(source: Sequence[Cue], target: Sequence[Cue]) -> list[tuple[str, str]]:
    """Return the texts that appear at the same time, each in one pair, in order.

    Args:
        source: Subtitles by time.
        target: Subtitles by time.
    """
    joined: list[tuple[str, str]] = []
    i = j = 0
    while i < len(source) and j < len(target):
        apart = target[j].start - source[i].start
        if i + 1 < len(source) and abs(target[j].start - source[i + 1].start) < abs(apart):
            i += 1  # the next line is nearer to this partner
        elif j + 1 < len(target) and abs(target[j + 1].start - source[i].start) < abs(apart):
            j += 1
        else:
            if abs(apart) <= TOLERANCE:
                joined.append((source[i].text, target[j].text))
                i, j = i + 1, j + 1
            elif apart < 0:
                j += 1
            else:
                i += 1
    return joined


def _parallel(
    source: Track, target: Track, texts: Sequence[str]
) -> tuple[list[tuple[str, str]], int]:
    """Return the pairs of two files with a line a subtitle, and how many lines have none."""
    sides = [[one_line(line) for line in text.removesuffix("\n").split("\n")] for text in texts]
    if len(sides[0]) != len(sides[1]):
        raise InputError(
            f"{target.path}: {len(sides[1])} lines, but {source.path} has {len(sides[0])}; line n "
            f"of one must translate line n of the other"
        )
    joined = [pair for pair in zip(*sides, strict=True) if all(pair)]
    return joined, sum(map(bool, sides[0] + sides[1])) - 2 * len(joined)


def _named(path: Path, languages: Sequence[str]) -> tuple[str, str] | None:
    """Return the episode and the language of a path; None if it is of none of the languages."""
    name = path.name
    for suffix in (*FORMATS, ".txt"):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    stem, _, code = name.rpartition(".")
    if stem and code in languages:
        return (path.parent / stem).as_posix(), code
    for i, part in enumerate(path.parts[:-1]):
        if part in languages and path.suffix.lower() in (*FORMATS, ".txt"):
            return Path(*path.parts[:i], *path.parts[i + 1 : -1], name).as_posix(), part
    return None


def _members(path: Path, inside: Path, languages: Sequence[str]) -> Iterator[Track]:
    """Yield the files of some languages in a tar archive, by path."""
    try:
        with tarfile.open(path) as archive:
            for member in sorted(archive.getmembers(), key=lambda m: m.name):
                named = _named(inside / member.name, languages) if member.isfile() else None
                stream = archive.extractfile(member) if named else None
                if named and stream and not hidden(member.name):
                    yield Track(*named, path / member.name, stream.read())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{path}: damaged archive: {error}") from error
