"""MMLU: questions with four options in 57 subjects (Hendrycks et al., ICLR 2021).

Files: the authors' `dev/<subject>_dev.csv`, `val/<subject>_val.csv`, `test/<subject>_test.csv` in a
folder or a zip archive, at any depth; no header, cells `question, A, B, C, D, letter`. `kind` is
the subject with blanks for underscores (`abstract algebra`).

Or `hf://cais/mmlu`, subset `all` (see `hub.py`): `question, subject, choices, answer`; its
`auxiliary_train`, which is of other exams, is not read.

The splits are the authors', with dev, their five examples a subject, as `train`: 285 / 1,531 /
14,042 questions. In 13 questions two options have the same text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules import hub
from datamodules.base import ZooDataModule
from datamodules.chinese_exams import chosen
from datamodules.files import SAMPLES, data_path, text_field
from datamodules.tables import members, read_cells, right_option, text_list
from zoo.errors import InputError
from zoo.records import Question, Record

ENDS = {"train": "_dev.csv", "val": "_val.csv", "test": "_test.csv"}
HUB_SPLITS = {"train": ("dev",), "val": ("validation", "val"), "test": ("test",)}
HUB_COLUMNS = ("question", "subject", "choices", "answer")
LETTERS = ("A", "B", "C", "D")


class MMLU(ZooDataModule):
    """MMLU as `Question` records with the subject as `kind`.

    Args:
        path: Folder or zip archive of the subjects' files, or `hf://cais/mmlu`. None reads a small
            sample that comes with the package.
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
        if self.path is not None and hub.is_hub(self.path):
            return self._from_hub(self.path, split)
        folder = SAMPLES / "mmlu.zip" if self.path is None else data_path(self.path)
        files = {
            path.name.removesuffix(ENDS[split]).replace("_", " "): path
            for path in members(folder, ENDS[split])
        }
        kept = [(name, files[name]) for name in chosen(self.subjects, files, str(folder))]
        return [item for name, path in kept for item in read_subject(path, name)]

    def _from_hub(self, path: str, split: str) -> list[Record]:
        """Read a split from the hub's form, in the order of the files: by subject."""
        by_subject: dict[str, list[Question]] = {}
        for where, name, row in hub.rows(path, HUB_SPLITS[split], HUB_COLUMNS, "all"):
            question = _question(row, where, name)
            by_subject.setdefault(question.kind, []).append(question)
        return [
            item for name in chosen(self.subjects, by_subject, path) for item in by_subject[name]
        ]


def _question(row: dict[str, Any], where: str, name: str) -> Question:
    """Return a question of the hub's form, where the answer is a letter or its number from 0."""
    options = text_list(row, "choices", where)
    if len(options) != len(LETTERS):
        raise InputError(f"{where}: {len(options)} choices, expected {len(LETTERS)}")
    answer = row["answer"]
    if isinstance(answer, int) and 0 <= answer < len(LETTERS):
        answer = LETTERS[answer]
    return Question(
        text_field(row, "question", where),
        tuple(options),
        right_option(answer, LETTERS, f"{where}: answer"),
        kind=text_field(row, "subject", where).replace("_", " "),
        id=name,
    )


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
