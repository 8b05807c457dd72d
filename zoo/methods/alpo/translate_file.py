r"""Translating a subtitle file, or a text with a line a subtitle: time codes and styles stay.

pysubs2 keeps no cue settings of `.vtt`; of the tags of `.srt` those of italics and their like stay,
and those in braces (`{\an8}`). What the written file shows is compared with the translation: lines
that the format cannot hold as they are (`zoo.records.subtitle_markup`) are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pysubs2 import SSAEvent, SSAFile

from zoo.cache import check_new_file, whole_file
from zoo.errors import InputError
from zoo.methods.alpo.translate import Translating, translate
from zoo.records import SubtitleBlock
from zoo.records.subtitle_blocks import cut
from zoo.records.subtitle_files import decode, format_of, parse, texts, write
from zoo.records.subtitle_markup import one_line, replace_text, shown

CHANGED = "lines changed to fit the format"
PLAIN = ".txt"
ToBlocks = Callable[[Sequence[SubtitleBlock]], list[SubtitleBlock]]
"""Cuts episodes into blocks."""


def translate_file(
    model: Any,
    source: Path,
    output: Path,
    languages: tuple[str, str],
    how: Translating | None = None,
    encoding: str = "utf-8",
    to_blocks: ToBlocks | None = None,
) -> Counter[str]:
    """Translate a subtitle file, or a text with a line a subtitle; return what was counted.

    Args:
        model: The translator, in evaluation mode.
        source: File to read: .srt, .vtt, .ass, .ssa, or .txt.
        output: File to write, in one of these formats; it appears whole or not at all.
        languages: Codes of the source and the target language.
        how: How the translation is written.
        encoding: Encoding of `source`; `output` is UTF-8.
        to_blocks: Cuts it into blocks, which may have terms; None for the usual size and no terms.

    Raises:
        InputError: A file is bad, `output` exists or cannot be written, or one has times and the
            other has not.
    """
    plain = source.suffix.lower() == PLAIN
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    check_new_file(output)
    if plain != (output.suffix.lower() == PLAIN):
        raise InputError(f"output: {output} and {source} must both have times, or both be {PLAIN}")
    kind = "" if plain else format_of(output)
    text = decode(source.read_bytes(), str(source), encoding)
    if plain:
        rows = text.removesuffix("\n").split("\n")
        places = [i for i, row in enumerate(rows) if row.strip()]
        lines = [one_line(rows[i]) for i in places]
    else:
        subtitles = parse(text, source)
        events = texts(subtitles)
        lines = [shown(event) for event in events]
    counts = Counter[str]()
    episode = SubtitleBlock(
        tuple(lines), source_language=languages[0], target_language=languages[1], id=source.name
    )
    blocks = cut(episode) if to_blocks is None else to_blocks([episode])
    parts = translate(model, blocks, how or Translating(), counts)
    translated = [one_line(line) for part in parts for line in part]
    if plain:
        for i, line in zip(places, translated, strict=True):
            rows[i] = line
        data = "\n".join(rows) + "\n"
    else:
        data, changed = _with_lines(subtitles, events, translated, kind)
        counts += Counter({CHANGED: changed})
    with whole_file(output) as scratch:
        scratch.write_text(data, "utf-8")
    return counts


def _with_lines(
    subtitles: SSAFile, events: Sequence[SSAEvent], lines: Sequence[str], kind: str
) -> tuple[str, int]:
    """Return a file with other lines in it, and how many of them it does not show as they are."""
    for event, line in zip(events, lines, strict=True):
        replace_text(event, line, kind)
    data, there = write(subtitles, kind)
    wanted = dict(zip(map(id, events), lines, strict=True))
    meant = [wanted.get(id(event), "") for event in subtitles if event.is_text]
    return data, sum(a != b for a, b in zip(meant, there, strict=True))
