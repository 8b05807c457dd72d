"""What a study found, as plain data: written by `python -m zoo study`, read by reports."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import InputError


@dataclass(frozen=True)
class StudyCell:
    """One fit of a study.

    Attributes:
        settings: Value of each varied key.
        measures: Number of the last validation, by its name in the study; a cell is refused where
            that is before the last step of its fit.
        curves: The same numbers at each validation: pairs of optimiser step and value.
    """

    settings: Mapping[str, Any]
    measures: Mapping[str, float]
    curves: Mapping[str, list[tuple[int, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyResults:
    """All finished fits of a study.

    Attributes:
        cells: In the order of the grid.
        base: Measures of the model that every fit starts from; empty where it was not asked for.
        diverged: Names of the cells that are left out: a gradient or a measure is not finite.
    """

    cells: tuple[StudyCell, ...]
    base: Mapping[str, float] = field(default_factory=dict)
    diverged: tuple[str, ...] = ()

    def save(self, path: Path) -> None:
        """Write a JSON file; a reader never sees half of it."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n", "utf-8")
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> StudyResults:
        """Read what `save` wrote.

        Raises:
            InputError: There is no such file, or it is another one.
        """
        try:
            data = json.loads(path.read_text("utf-8"))
            cells = tuple(StudyCell(**cell) for cell in data["cells"])
            return cls(cells, data["base"], tuple(data.get("diverged", ())))
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file; `python -m zoo study` writes it") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: no results of a study: {error}") from error


class StudyReport(ABC):
    """What is made of a study's results. Subclasses fit, draw and write."""

    @abstractmethod
    def write(self, results: StudyResults, folder: Path) -> list[Path]:
        """Write a report.

        Args:
            results: The finished fits.
            folder: Where to write.

        Returns:
            The files, the one to read first in front.
        """
