"""MMLU: questions with four options in 57 subjects (Hendrycks et al., ICLR 2021).

Files: the authors' `dev/<subject>_dev.csv`, `val/<subject>_val.csv`, `test/<subject>_test.csv` in a
folder or a zip archive, at any depth; no header, cells `question, A, B, C, D, letter`. `kind` is
the subject with blanks for underscores (`abstract algebra`).

The splits are the authors', with dev, their five examples a subject, as `train`: 285 / 1,531 /
14,042 questions. In 13 questions two options have the same text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path
from datamodules.tables import hint, members, read_cells, right_option
from zoo.errors import InputError
from zoo.records import Question, Record

ENDS = {"train": "_dev.csv", "val": "_val.csv", "test": "_test.csv"}
LETTERS = ("A", "B", "C", "D")


class MMLU(ZooDataModule):
    """MMLU as `Question` records with the subject as `kind`.

    Args:
        path: Folder or zip archive of the subjects' files. None reads a small sample that comes
            with the package.
        subjects: Names of the subjects to keep, with blanks or underscores; None keeps all.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Question,)

    def __init__(
        self, path: str | None = None, *, subjects: list[str] | None = None, **loader: Any
    ) -> None:
        super().__init__(**loader)
        self.path, self.subjects = path, subjects

    def load(self, split: str) -> list[Record]:
        """Read the questions of a split, subject by subject in alphabetical order."""
        folder = SAMPLES / "mmlu.zip" if self.path is None else data_path(self.path)
        files = {
            path.name.removesuffix(ENDS[split]).replace("_", " "): path
            for path in members(folder, ENDS[split])
        }
        wanted = [name.replace("_", " ") for name in self.subjects or files]
        for name in wanted:
            if name not in files:
                raise InputError(f"{folder}: no subject {name!r}; {hint(name, files)}")
        chosen = [(name, files[name]) for name in sorted(set(wanted))]
        return [item for name, path in chosen for item in read_subject(path, name)]


def read_subject(path: Path, kind: str) -> Iterator[Question]:
    """Yield the questions of a subject's file."""
    for number, row in read_cells(path):
        where = f"{path}:{number}"
        cells = [text.strip() for text in row]
        if len(cells) != 6:
            raise InputError(f"{where}: {len(cells)} cells, expected question, A, B, C, D, letter")
        for name, text in zip(("question", *LETTERS), cells[:5], strict=True):
            if not text:
                raise InputError(f"{where}: {name} is empty")
        yield Question(
            cells[0],
            tuple(cells[1:5]),
            right_option(cells[5], LETTERS, f"{where}: the letter"),
            kind=kind,
            id=f"{path.name}:{number}",
        )
