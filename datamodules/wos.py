"""WoS: abstracts of papers with their domain and area (Kowsari et al., ICMLA 2017).

File: the authors' `Data.txt` (or `.gz`), tab separated, header `Y1 Y2 Y Domain area keywords
Abstract`. `Y1` numbers the domain, `Y2` the area in it. Names have stray blanks around them, some
abstracts are in quotes with inner quotes doubled; both are undone. The text is the abstract; the
labels are the names `Domain` and `area`, since one number `Y2` can stand for several areas.
`Depression` is an area of two domains. The whole file has 46,985 abstracts in 7 domains and 134
areas, the sample `Data1k.txt` 1,000 in 7 and 132.

The split is ours, after the published recipe: 20 percent of the abstracts for test, then 20 percent
of the rest for validation, stratified by domain and area (30,070 / 7,518 / 9,397 of 46,985). An
area of n abstracts gives the whole part of n / 5 to the part held out; what then lacks to the
total comes from the areas with the largest remainder, one abstract each. An area never gives its
last abstract: one with a single abstract stays in training, so every class is learnt.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, find, read_lines, shuffled
from datamodules.tables import unquoted
from datamodules.taxonomy import Row, label_paths, taxonomy_of
from zoo.errors import InputError, nearest
from zoo.records import LabelPath, Record

COLUMNS = ("Y1", "Y2", "Y", "Domain", "area", "keywords", "Abstract")
NAMES = ("Data.txt", "Data.txt.gz", "Data1k.txt", "Data1k.txt.gz")
HELD_PERCENT = 20


class WoS(ZooDataModule):
    """Web of Science abstracts as `LabelPath` records with a domain and an area.

    Args:
        path: `Data.txt` or its folder. None reads a small sample that comes with the package.
        label_files: Folder with the authors' `YL1.txt` and `YL2.txt` for these abstracts. They are
            compared with the columns `Y1` and `Y2`, line by line; None compares nothing.
        split_seed: Seed of our split.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (LabelPath,)

    def __init__(
        self,
        path: str | None = None,
        *,
        label_files: str | None = None,
        split_seed: int = 42,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        self.path, self.label_files, self.split_seed = path, label_files, split_seed
        self._all: list[LabelPath] = []

    def load(self, split: str) -> list[Record]:
        """Read the abstracts of a split."""
        if not self._all:
            path = SAMPLES / "wos.txt" if self.path is None else data_path(self.path)
            rows = list(read_abstracts(find(path, *NAMES) if path.is_dir() else path))
            if self.label_files is not None:
                check_labels(rows, data_path(self.label_files))
            paths = [row for row, _ in rows]
            self._all = list(label_paths(paths, taxonomy_of(paths, shared_names=True)))
        train, test = hold_out(self._all, self.split_seed)
        if split == "test":
            return list(test)
        train, val = hold_out(train, self.split_seed)
        return list(train if split == "train" else val)


def read_abstracts(path: Path) -> Iterator[tuple[Row, tuple[str, str]]]:
    """Yield `(text with names, (Y1, Y2))` for each line of the file."""
    lines = read_lines(path)
    number, header = next(lines)
    names = tuple(name.strip() for name in header.split("\t"))
    if names != COLUMNS:
        wrong = next((name for name in COLUMNS if name not in names), None)
        why = f"column {wrong!r} is missing; {nearest(wrong, names)}" if wrong else "another order"
        raise InputError(f"{path}:{number}: expected the header {' '.join(COLUMNS)}: {why}")
    for number, line in lines:
        where = f"{path}:{number}"
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != len(COLUMNS):
            raise InputError(f"{where}: {len(cells)} cells between tabs, expected {len(COLUMNS)}")
        row = dict(zip(COLUMNS, cells, strict=True))
        row["Abstract"] = unquoted(row["Abstract"]).strip()
        for name in ("Y1", "Y2", "Domain", "area", "Abstract"):
            if not row[name]:
                raise InputError(f"{where}: column {name!r} is empty")
        labels = (row["Domain"], row["area"])
        yield Row(row["Abstract"], labels, where, f"{path.name}:{number}"), (row["Y1"], row["Y2"])


def check_labels(rows: list[tuple[Row, tuple[str, str]]], folder: Path) -> None:
    """Compare the numbers of the abstracts with the authors' label files.

    Raises:
        InputError: A file has another number of lines, or another label.
    """
    for level, name in enumerate(("YL1.txt", "YL2.txt")):
        path = find(folder, name, f"{name}.gz")
        labels = list(read_lines(path))
        if len(labels) != len(rows):
            raise InputError(f"{path}: {len(labels)} labels for {len(rows)} abstracts")
        for (number, label), (row, codes) in zip(labels, rows, strict=True):
            if label.strip() != codes[level]:
                column = COLUMNS[level]
                raise InputError(
                    f"{path}:{number}: label {label.strip()}, but {column} is {codes[level]} at "
                    f"{row.where}"
                )


def hold_out(records: list[LabelPath], seed: int) -> tuple[list[LabelPath], list[LabelPath]]:
    """Return `(kept, held out)`, stratified by the whole path, in the order of the records."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i in shuffled(range(len(records)), seed):
        groups.setdefault(records[i].labels, []).append(i)
    sizes = {labels: len(group) * HELD_PERCENT // 100 for labels, group in groups.items()}
    wanted = -(-len(records) * HELD_PERCENT // 100)
    rest = sorted(groups, key=lambda labels: -(len(groups[labels]) * HELD_PERCENT % 100))
    for labels in rest:
        if sum(sizes.values()) < wanted and sizes[labels] + 1 < len(groups[labels]):
            sizes[labels] += 1
    held = {i for labels, group in groups.items() for i in group[: sizes[labels]]}
    return (
        [record for i, record in enumerate(records) if i not in held],
        [record for i, record in enumerate(records) if i in held],
    )
