"""TruthfulQA: questions that people often answer wrongly (Lin et al., ACL 2022).

File: `TruthfulQA.csv`, header `Type, Category, Question, Best Answer, Correct Answers, Incorrect
Answers, Source`; answers are separated by `;`. 817 questions in 38 categories. Or the subset
`generation` of `hf://truthfulqa/truthful_qa` (see `hub.py`), where answers are lists. The subset
`multiple_choice` has no categories and is refused.

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
from datamodules.files import SAMPLES, data_path, find, text_field
from datamodules.hub import SPLIT_NAMES, is_hub, rows
from datamodules.tables import SHARES, cell, digest, divide, read_csv, text_list
from zoo.errors import InputError
from zoo.records import Question, Record

FILES = ("TruthfulQA.csv", "TruthfulQA.csv.gz")
COLUMNS = ("Category", "Question", "Best Answer", "Incorrect Answers")
HUB_COLUMNS = ("category", "question", "best_answer", "incorrect_answers")


class TruthfulQA(ZooDataModule):
    """TruthfulQA as `Question` records with the category as `kind`.

    Args:
        path: `TruthfulQA.csv`, its folder, or `hf://truthfulqa/truthful_qa`. None reads a small
            sample that comes with the package, the same for every split.
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
        if is_hub(self.path, *FILES):
            found = rows(self.path, SPLIT_NAMES["val"], HUB_COLUMNS, "generation")
            questions = [_from_hub(row, where, name) for where, name, row in found]
        else:
            path = data_path(self.path)
            questions = list(read_questions(find(path, *FILES) if path.is_dir() else path))
        return [*divide(questions, lambda item: item.question, split, SHARES, self.path)]


def read_questions(path: Path) -> Iterator[Question]:
    """Yield the questions of the file."""
    for number, row in read_csv(path, *COLUMNS):
        where = f"{path}:{number}"
        kind, question, best, wrong = (cell(row, name, where) for name in COLUMNS)
        yield _question(kind, question, best, wrong.split(";"), where, f"{path.name}:{number}")


def _from_hub(row: dict[str, Any], where: str, name: str) -> Question:
    kind, question, best = (text_field(row, column, where) for column in HUB_COLUMNS[:3])
    return _question(kind, question, best, text_list(row, HUB_COLUMNS[3], where), where, name)


def _question(
    kind: str, question: str, best: str, incorrect: list[str], where: str, name: str
) -> Question:
    wrong = [text.strip() for text in incorrect if text.strip()]
    if best in wrong:
        raise InputError(f"{where}: the best answer is also among the incorrect answers")
    options = tuple(sorted({best, *wrong}, key=lambda text: digest(f"{question}\n{text}")))
    return Question(question, options, options.index(best), kind=kind, id=name)
