"""Texts that are not read at once: files of a source, and a place in them to go on from.

A source is a file, a folder of files (shards), or a dataset of the hub. A file is read by its name:
`.jsonl` and `.json` (objects with the field `text`), `.csv`, `.parquet`, anything else as plain
text, a document a line; each may be gzipped but Parquet. In a folder, files of other names than
`.jsonl`, `.json`, `.csv`, `.parquet` and `.txt` are passed over. A shard that is a single JSON list
is held in memory while it is read; the others are not. A dataset of the hub is streamed shard by
shard; without a network it is one shard, from what was downloaded before.

A seed orders the files of a folder, and the rows of a file within runs of `shuffle` rows, anew in
every epoch. Readers that share a source (lanes) divide it among them: file by file if there are
enough, else row by row. Which text a lane gets depends on the seed and the number of lanes alone.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from datamodules import hub
from datamodules.chat_rows import OnBad, unread_rows
from datamodules.files import data_path, read_lines, text_field
from datamodules.tables import members
from zoo.errors import InputError

log = logging.getLogger(__name__)

KINDS = (".jsonl", ".json", ".csv", ".parquet", ".txt")
Unread = Iterator[tuple[int | str, Callable[[], str]]]
"""Line or row of a text, and the function that reads it or raises."""


class ReadingPlace(NamedTuple):
    """Where a lane goes on reading.

    Attributes:
        epoch: How often all of it was read before.
        shard: Number of the shard in the order of this epoch.
        row: Number of the next row in the order of this epoch, held-out rows not counted.
    """

    epoch: int = 0
    shard: int = 0
    row: int = 0


class TextShards:
    """The texts of one source.

    Args:
        name: What the source is called in errors.
        path: A file, a folder, or `hf://owner/name` with an optional `@revision`.
        field: Field or column of the text, where a row has several.
        held_out: Number of texts at the start of the first shard that `read` leaves out.
        seed: Seed of the order of shards and rows, which is another one in every epoch.
        shuffle: Rows that are put into another order together, and held in memory unparsed; 1
            keeps the order of a file.
        on_bad: `error` stops at a row or shard that cannot be read; `skip` leaves it out, and
            says which.

    Raises:
        InputError: There is no such file, or no file of a known name in the folder.
    """

    def __init__(
        self,
        name: str,
        path: str,
        *,
        field: str = "text",
        held_out: int = 0,
        seed: int = 0,
        shuffle: int = 1,
        on_bad: OnBad = "error",
    ) -> None:
        self.name, self.path, self.field = name, path, field
        self.held_out, self.seed, self.shuffle, self.on_bad = held_out, seed, shuffle, on_bad
        self.files = [] if path.startswith(hub.SCHEME) else _files(data_path(path))

    def __len__(self) -> int:
        """Return the number of shards."""
        if self.files:
            return len(self.files)
        return 1 if self._streamed is None else int(self._streamed.num_shards)

    @cached_property
    def _streamed(self) -> Any:
        """The dataset of the hub, where it is one and there is a network; else None."""
        return None if self.files else hub.streamed(self.path, (self.field,))

    def read(
        self, place: ReadingPlace, lane: int = 0, lanes: int = 1
    ) -> Iterator[tuple[ReadingPlace, str]]:
        """Yield the texts of a lane from a place on, each with its own place, to the epoch's end.

        Args:
            place: Where to begin.
            lane: Which of the readers this is.
            lanes: Number of readers.

        Raises:
            InputError: A shard or a row cannot be read; names it.
        """
        by_file = len(self) >= lanes
        order = list(range(len(self)))
        key = f"{self.seed}-{self.name}-{place.epoch}"
        random.Random(key).shuffle(order)
        for number in range(place.shard, len(order)):
            if by_file and number % lanes != lane:
                continue
            first = place.row if number == place.shard else 0
            mine = (0, 1) if by_file else (lane, lanes)
            for row, text in self._texts(order[number], key, first, *mine):
                yield ReadingPlace(place.epoch, number, row), text

    def _texts(
        self, shard: int, key: str, first: int, lane: int, lanes: int
    ) -> Iterator[tuple[int, str]]:
        """Yield the texts of a shard from a row on, every `lanes`-th one, each with its row."""
        try:
            for row, parse in enumerate(self._shuffled(shard, key)):
                if row < first or row % lanes != lane:
                    continue
                try:
                    yield row, parse()
                except InputError as error:
                    self._pass_over(error, "row")
        except InputError as error:
            self._pass_over(error, "rest of the shard")

    def _shuffled(self, shard: int, key: str) -> Iterator[Callable[[], str]]:
        """Yield the rows of a shard that are not held out, unread, in the order of an epoch.

        Raises:
            InputError: The shard cannot be read on; all rows before were yielded.
        """
        rows = islice(self._rows(shard), 0 if shard else self.held_out, None)
        if self.shuffle == 1:
            yield from (parse for _, parse in rows)
            return
        rng = random.Random(f"{key}-{shard}")
        while True:
            run: list[Callable[[], str]] = []
            problem: InputError | None = None
            try:
                for _, parse in islice(rows, self.shuffle):
                    run.append(parse)  # what stands before an unreadable row is kept
            except InputError as error:
                problem = error
            if self.shuffle > 1:
                rng.shuffle(run)
            yield from run
            if problem is not None:
                raise problem
            if len(run) < self.shuffle:
                return

    def _pass_over(self, error: InputError, what: str) -> None:
        """Raise the error, or say that something is left out."""
        if self.on_bad == "error":
            raise InputError(f"{error}; data.on_bad: skip goes on without this {what}") from error
        log.warning("data.sources.%s: a %s is left out: %s", self.name, what, error)

    def head(self, start: int, stop: int) -> list[tuple[str, str]]:
        """Return name and text of the rows `start` to `stop` of the first shard.

        A row that cannot be read and is skipped counts as held out, so that `read` begins where it
        does without it.

        Raises:
            InputError: It has no more rows than are held out, or one of them cannot be read.
        """
        found: list[tuple[str, str]] = []
        for row, (line, parse) in enumerate(self._rows(0)):
            if row >= max(stop, self.held_out):
                return found
            if start <= row < stop:
                try:
                    found.append((f"{self.name}:{line}", parse()))
                except InputError as error:
                    self._pass_over(error, "row")
        raise InputError(
            f"data.sources.{self.name}: {self._place(0)} has no more than {self.held_out} texts, "
            f"which are held out; lower data.held_out"
        )

    def digest(self) -> str:
        """Return a digest of the names and sizes of the shards, and of what is read of them."""
        told = [(file.name, file.stat().st_size if file.exists() else 0) for file in self.files]
        what: Any = told or [self.path, len(self)]
        read = (what, self.field, self.held_out, self.shuffle)
        return hashlib.sha256(repr(read).encode()).hexdigest()[:12]

    def _place(self, shard: int) -> str:
        return str(self.files[shard]) if self.files else f"{self.path}, shard {shard}"

    def _rows(self, shard: int) -> Unread:
        """Yield the rows of a shard that hold more than blanks, unread."""
        if self._streamed is not None:
            found = hub.shard_rows(self.path, self._streamed, shard)
            for number, item in enumerate(found, start=1):
                where = f"{self._place(shard)}: row {number}"
                yield number, partial(text_field, item, self.field, where)
            return
        if not self.files:
            for number, row in enumerate(hub.rows(self.path, ("train",), (self.field,)), start=1):
                where, _, item = row
                yield number, partial(text_field, item, self.field, where)
            return
        path = self.files[shard]
        if _kind(path) not in KINDS[:-1]:
            for number, line in read_lines(path):
                yield number, partial(str, line)
            return
        for place, parse in unread_rows(path):
            yield place, partial(_text, parse, self.field, f"{path}:{place}")


def _text(parse: Callable[[], dict[str, Any]], name: str, where: str) -> str:
    item = parse()
    text = item.get(name)
    if isinstance(text, str) and (text := text.strip()):
        return text
    return text_field(item, name, where)  # says what is wrong


def _kind(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _files(path: Path) -> list[Path]:
    """Return the shards of a path, in order."""
    if path.is_file():
        return [path]
    files = [file for file in members(path, "") if _kind(file) in KINDS]
    if not files:
        raise InputError(f"{path}: no file ends in {', '.join(KINDS)} (or in that and .gz)")
    return files
