"""TruthfulQA: questions that people often answer wrongly (Lin et al., ACL 2022).

File: `TruthfulQA.csv`, header `Type, Category, Question, Best Answer, Correct Answers, Incorrect
Answers, Source`; answers are separated by `;`. 817 questions in 38 categories.

The options are the best answer and the incorrect answers, each text once, in an order given by a
hash of the question and the option: 2 to 13 options. `kind` is the category.

There is one file and no training part. The split is ours: a hash of the question divides it into 80
/ 10 / 10 percent (655 / 81 / 81).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, find
from datamodules.tables import SHARES, cell, digest, divide, read_csv
from zoo.errors import InputError
from zoo.records import Question, Record

COLUMNS = ("Category", "Question", "Best Answer", "Incorrect Answers")


class TruthfulQA(ZooDataModule):
    """TruthfulQA as `Question` records with the category as `kind`.

    Args:
        path: `TruthfulQA.csv` or its folder. None reads a small sample that comes with the package,
            the same for every split.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Question,)

    def __init__(self, path: str | None = None, **loader: Any) -> None:
        super().__init__(**loader)
        self.path = path

    def load(self, split: str) -> list[Record]:
        """Read the questions of a split."""
        if self.path is None:
            return list(read_questions(SAMPLES / "truthful_qa.csv"))
        path = data_path(self.path)
        path = find(path, "TruthfulQA.csv", "TruthfulQA.csv.gz") if path.is_dir() else path
        questions = list(read_questions(path))
        return [*divide(questions, lambda item: item.question, split, SHARES, str(path))]


def read_questions(path: Path) -> Iterator[Question]:
    """Yield the questions of the file."""
    for number, row in read_csv(path, *COLUMNS):
        where = f"{path}:{number}"
        question = cell(row, "Question", where)
        best = cell(row, "Best Answer", where)
        wrong = [text.strip() for text in cell(row, "Incorrect Answers", where).split(";")]
        if best in wrong:
            raise InputError(f"{where}: the best answer is also among the incorrect answers")
        texts = dict.fromkeys([best, *(text for text in wrong if text)])
        options = tuple(sorted(texts, key=lambda text: digest(f"{question}\n{text}")))
        yield Question(
            question,
            options,
            options.index(best),
            kind=cell(row, "Category", where),
            id=f"{path.name}:{number}",
        )
