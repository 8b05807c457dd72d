"""Subtitles in two languages: TVsub, or any folder with a file per episode and language.

TVsub (Wang et al., "Translating Pro-Drop Languages with Reconstruction Models", AAAI 2018) is read
as its authors publish it: `dev.orignal.{zh,en}`, `test.orignal.{zh,en}`, and an archive
`train_....tar.gz` (or a folder `train`) of `N.{zh,en}`, a line a subtitle.

Which files belong together, and which of their lines, says `subtitle_pairs.py`. A folder, archive
or file whose name begins with `train`, `dev`, `val` or `test` has the split in its name. Where no
name says one, the episodes are divided 80 / 10 / 10 by a hash of their names; where only `val` is
missing, it is a tenth of the episodes of `train`.

A record is a block: 25 lines or some more up to the end of a segment, and 5 on both sides. A file
that `generate --input` translates becomes such blocks too: `encoding`, `core`, `context` and
`terms` hold for it as for the data.
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from datamodules.base import SPLITS, ZooDataModule
from datamodules.files import SAMPLES, data_path, first_few, one_of, read_lines
from datamodules.subtitle_pairs import Paired, paired, pairs, tracks
from datamodules.subtitle_segments import read_starts
from datamodules.tables import SHARES, divide
from zoo.errors import InputError, check_counts
from zoo.records import Record, SubtitleBlock
from zoo.records.subtitle_blocks import CONTEXT, CORE, cut
from zoo.records.subtitle_files import check_encoding

log = logging.getLogger(__name__)

Part = Literal["all", "sft", "preference"]
SFT_SHARE = 80  # percent of the training blocks
JOINED = (
    (r"(?i)(\w) '(?=(s|t|m|d|ll|re|ve)\b)", r"\1'"),
    (r" (?=[,.!?;:%)\]])", ""),
    (r"(?<=[(\[]) ", ""),
)


class Subtitles(ZooDataModule):
    """Subtitles and their translation as `SubtitleBlock` records.

    Args:
        path: Folder of the data. None reads a small sample that comes with the package, of which
            every part is the whole.
        source: Code of the source language, as the files are named.
        target: Code of the target language.
        part: Training blocks to take: all, the 80 percent that the translator learns from, or the
            other 20 percent, from which preferences are made.
        core: Lines of a block; it has more up to the end of a segment.
        context: Lines before and after it.
        segments: JSONL file with the first line of each segment of each episode, as `python -m
            zoo.methods.alpo segment` writes it; None takes each line for a segment.
        terms: Glossary: a term, its type and its translation a line, between tabs. Those that occur
            in a block are part of it.
        moses: Undo the tokenisation of Moses, as TVsub's English has it: `don &apos;t` is `don't`.
        encoding: Encoding of the files at `path`, and of a file that `generate --input` translates.
            The sample is read as what it is.
        on_bad: `skip` leaves bad episodes out, and says how many and what is wrong with the first
            three.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (SubtitleBlock,)

    def __init__(
        self,
        path: str | None = None,
        *,
        source: str = "zh",
        target: str = "en",
        part: Part = "all",
        core: int = CORE,
        context: int = CONTEXT,
        segments: str | None = None,
        terms: str | None = None,
        moses: bool = False,
        encoding: str = "utf-8",
        on_bad: Literal["error", "skip"] = "error",
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        if source == target:
            raise InputError(f"data.target: {target!r} is the source language too")
        check_counts("data", {"core": core})
        if context < 0:
            raise InputError(f"data.context: {context} is below 0")
        self.sample = path is None
        self.folder = SAMPLES / "subtitles" if path is None else data_path(path)
        self.source, self.target, self.encoding, self.moses = source, target, encoding, moses
        check_encoding(encoding)
        self.part, self.on_bad = part, on_bad
        self.core, self.context = core, context
        self.segments, self.terms = segments, terms
        self._paired: list[Paired] = []

    def episodes(self, split: str) -> list[SubtitleBlock]:
        """Return the episodes of a split, each as one block of all its lines.

        Raises:
            InputError: A file is bad, or there are too few episodes.
        """
        one_of("split", split, SPLITS)
        if not self._paired:
            self._paired = self._read()
        named = {paired.split for paired in self._paired}
        if named == {""}:
            mine = self._divided(self._paired, split, SHARES)
        elif "" in named:
            name = next(paired.episode for paired in self._paired if not paired.split)
            raise InputError(f"{self.folder}: {name} names no split, others do")
        elif "val" in named or split == "test":
            mine = [paired for paired in self._paired if paired.split == split]
        else:
            train = [paired for paired in self._paired if paired.split == "train"]
            mine = self._divided(train, split, {"train": 90, "val": 10})
        starts = read_starts(data_path(self.segments)) if self.segments else None
        return [self._episode(paired, starts) for paired in mine]

    def load(self, split: str) -> list[Record]:
        """Return the blocks of a split."""
        blocks = self.to_blocks(self.episodes(split))
        if split == "train" and self.part != "all" and not self.sample:
            shares = {"sft": SFT_SHARE, "preference": 100 - SFT_SHARE}
            blocks = divide(blocks, lambda block: block.id, self.part, shares, str(self.folder))
        return list(blocks)

    def to_blocks(self, episodes: Iterable[SubtitleBlock]) -> list[SubtitleBlock]:
        """Return the blocks of episodes, with the terms that occur in each.

        Raises:
            InputError: The glossary is bad.
        """
        terms = read_terms(data_path(self.terms)) if self.terms else []
        blocks: list[SubtitleBlock] = []
        for episode in episodes:
            blocks += cut(episode, self.core, self.context, first=len(blocks))
        return [
            replace(block, terms=tuple(t for t in terms if any(t[0] in x for x in block.lines)))
            for block in blocks
        ]

    def _read(self) -> list[Paired]:
        """Return the paired lines of every episode; says what was left out."""
        found: list[Paired] = []
        bad: list[str] = []
        encoding = "utf-8" if self.sample else self.encoding
        for both in pairs(
            tracks(self.folder, (self.source, self.target)), self.source, self.target
        ):
            try:
                found.append(paired(*both, encoding))
            except InputError as error:
                if self.on_bad == "error":
                    raise InputError(
                        f"{error}; data.on_bad: skip leaves such episodes out"
                    ) from error
                bad.append(str(error))
        if bad and not found:
            raise InputError(f"{self.folder}: all {len(bad)} episodes are bad: {bad[0]}")
        if bad:
            what = first_few(bad, joint="; ")
            log.warning("%s: %d episodes are bad and left out: %s", self.folder, len(bad), what)
        lost = sum(paired.lost for paired in found)
        if lost:
            lines = lost + sum(2 * len(paired.source) for paired in found)
            log.warning(
                "%s: %d of %d lines have no partner and are left out", self.folder, lost, lines
            )
        return [paired for paired in found if paired.source]

    def _divided(self, found: list[Paired], split: str, shares: dict[str, int]) -> list[Paired]:
        try:
            return divide(found, lambda p: p.episode, split, shares, str(self.folder))
        except InputError as error:
            raise InputError(
                f"{error}; put the files into folders named train, val and test"
            ) from error

    def _episode(
        self, paired: Paired, starts: dict[str, tuple[tuple[int, ...], int]] | None
    ) -> SubtitleBlock:
        first: tuple[int, ...] = ()
        if starts is not None:
            if paired.episode not in starts:
                raise InputError(f"{self.segments}: has no segments of {paired.episode}")
            first, count = starts[paired.episode]
            if count != len(paired.source):
                raise InputError(
                    f"{self.segments}: the segments of {paired.episode} are of {count} lines, but "
                    f"it has {len(paired.source)}; make them again"
                )
        clean = without_moses if self.moses else tuple
        return SubtitleBlock(
            source=clean(paired.source),
            target=clean(paired.target),
            starts=first,
            source_language=self.source,
            target_language=self.target,
            id=paired.episode,
        )


def without_moses(lines: Iterable[str]) -> tuple[str, ...]:
    """Return lines without the marks and blanks of Moses' tokenizer.

    Example:
        >>> without_moses(["isn &apos;t it ? no , I &apos;ll go ."])
        ("isn't it? no, I'll go.",)
    """
    return tuple(map(_without_moses, lines))


def _without_moses(line: str) -> str:
    text = html.unescape(line).replace(" @-@ ", "-")
    for pattern, joined in JOINED:
        text = re.sub(pattern, joined, text)
    return text


def read_terms(path: Path) -> list[tuple[str, str, str]]:
    """Return the terms of a glossary: the term, its type, its translation.

    Raises:
        InputError: A line has not three columns, or the first or last one is empty.
    """
    terms = []
    for number, line in read_lines(path):
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 3 or not cells[0] or not cells[2]:
            raise InputError(
                f"{path}:{number}: expected a term, its type (may be empty) and its translation "
                f"between tabs, found {line[:60]!r}"
            )
        terms.append((cells[0], cells[1], cells[2]))
    return terms
