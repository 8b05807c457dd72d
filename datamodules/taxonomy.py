"""From rows with labels to label paths: the taxonomy, and what may be wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from datamodules.tables import hint
from zoo.errors import InputError
from zoo.records import LabelPath, Taxonomy


@dataclass(frozen=True, slots=True)
class Row:
    """A text with its labels, before there is a taxonomy.

    Attributes:
        text: The text.
        labels: Class at each level, coarse to fine.
        where: File and line for errors.
        id: File's name and line.
    """

    text: str
    labels: tuple[str, ...]
    where: str
    id: str


def taxonomy_of(rows: Iterable[Row], *, shared_names: bool) -> Taxonomy:
    """Return the taxonomy of all the rows' paths; names of one parent in alphabetical order.

    Args:
        rows: Rows with labels; gone through once.
        shared_names: Let one name stand under several parents.

    Raises:
        InputError: Paths of different depth, or a name under two parents.
    """
    depths: dict[int, str] = {}
    twice: list[str] = []
    below: dict[tuple[str, ...], set[str]] = {}
    above: dict[tuple[int, str], tuple[tuple[str, ...], str]] = {}
    for row in rows:
        depths.setdefault(len(row.labels), row.where)
        for level, label in enumerate(row.labels):
            path = row.labels[:level]
            parent, place = above.setdefault((level, label), (path, row.where))
            if parent != path and not shared_names:
                twice.append(
                    f"{row.where}: {label!r} stands under {'/'.join(path)}, but under "
                    f"{'/'.join(parent)} at {place}; set allow_shared_names to true if both are "
                    "meant"
                )
            below.setdefault(path, set()).add(label)
    if len(depths) > 1:
        (many, deep), (few, flat) = max(depths.items()), min(depths.items())
        raise InputError(f"{flat}: {few} levels, but {many} at {deep}; every text needs all levels")
    if twice:
        raise InputError(twice[0])
    return Taxonomy({path: tuple(sorted(names)) for path, names in sorted(below.items())})


def label_paths(rows: Iterable[Row], taxonomy: Taxonomy) -> Iterator[LabelPath]:
    """Yield the rows as records.

    Raises:
        InputError: A path is not in the taxonomy.
    """
    for row in rows:
        if len(row.labels) != taxonomy.depth:
            raise InputError(
                f"{row.where}: {len(row.labels)} levels, but the taxonomy has {taxonomy.depth}"
            )
        for level, label in enumerate(row.labels):
            names = taxonomy.below(row.labels[:level])
            if label not in names:
                above = "/".join(row.labels[:level]) or "the first level"
                raise InputError(
                    f"{row.where}: unknown label {label!r} in {above}; {hint(label, names)}"
                )
        yield LabelPath(row.text, row.labels, taxonomy, row.id)
