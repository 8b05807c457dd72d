"""Texts labelled by a path of classes, coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Taxonomy:
    """Class names in levels, coarse to fine.

    Attributes:
        children: Path of names from the top (empty for the top itself) -> names below it, in a
            fixed order. The same name may stand under two parents: a path tells them apart.
    """

    children: dict[tuple[str, ...], tuple[str, ...]]

    @property
    def depth(self) -> int:
        """Number of levels."""
        return 1 + max(len(path) for path in self.children)

    def below(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names under a path; none if there is no such path."""
        return self.children.get(path, ())


@dataclass(frozen=True, slots=True)
class LabelPath:
    """A text with a class at every level of a taxonomy.

    Attributes:
        text: What is classified.
        labels: Its class at each level, coarse to fine.
        taxonomy: All classes; one object for all records of a dataset.
        id: Where the record comes from, for example `Data.txt:17`.
    """

    text: str
    labels: tuple[str, ...]
    taxonomy: Taxonomy
    id: str = ""
