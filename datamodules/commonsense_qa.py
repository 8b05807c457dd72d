"""CommonsenseQA: questions with five options (Talmor et al., NAACL 2019).

Files: `train_rand_split.jsonl` (9,741 questions) and `dev_rand_split.jsonl` (1,221), one object a
line, in one of two layouts: the authors' `{"id", "answerKey", "question": {"stem", "choices":
[{"label", "text"}, ...]}}`, or the flat `{"id", "question", "choices": {"label": [...], "text":
[...]}, "answerKey"}`. `kind` is empty. In 24 questions of dev two options have the same text.

`hf://tau/commonsense_qa` (see `hub.py`) has the flat one; its `validation` is dev.

The answers of the authors' test file are not public, so the test split is ours. With both files,
`test` is all of dev, and a hash of the question gives 10 percent of train to `val`. With dev alone,
the hash divides it into 80 / 10 / 10 percent (977 / 122 / 122).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, field, find, text_field
from datamodules.hub import SPLIT_NAMES, is_hub, rows
from datamodules.json_files import read_each
from datamodules.tables import SHARES, divide, present, right_option
from zoo.errors import InputError
from zoo.records import Question, Record

TRAIN = ("train_rand_split.jsonl", "train_rand_split.jsonl.gz")
TRAIN_SHARES = {"train": 90, "val": 10}
DEV = ("dev_rand_split.jsonl", "dev_rand_split.jsonl.gz")


class CommonsenseQA(ZooDataModule):
    """CommonsenseQA as `Question` records.

    Args:
        path: Folder with `train_rand_split.jsonl` and `dev_rand_split.jsonl`, or with dev alone, or
            one file, which is then divided, or `hf://tau/commonsense_qa`. None reads a small sample
            that comes with the package, the same for every split.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Question,)

    def __init__(self, path: str | None = None, **loader: Any) -> None:
        super().__init__(**loader)
        self.path = path

    def load(self, split: str) -> list[Record]:
        """Read the questions of a split."""
        if self.path is None:
            return list(read_questions(SAMPLES / "commonsense_qa.jsonl"))
        if is_hub(self.path, *TRAIN, *DEV):
            return self._from_hub(self.path, split)
        path, shares = data_path(self.path), SHARES
        if path.is_dir() or path.suffix == ".zip":
            folder = path
            path = find(folder, *DEV)
            if present(folder, *TRAIN):
                if split == "test":
                    return list(read_questions(path))
                path, shares = find(folder, *TRAIN), TRAIN_SHARES
        questions = list(read_questions(path))
        return [*divide(questions, lambda item: item.question, split, shares, str(path))]

    def _from_hub(self, path: str, split: str) -> list[Record]:
        """Read a split from the hub's form, where `test` has no answers."""
        source = SPLIT_NAMES["val" if split == "test" else "train"]
        found = rows(path, source, ("question", "choices", "answerKey"))
        questions = [_question(item, where, name) for where, name, item in found]
        if split == "test":
            return [*questions]
        return [*divide(questions, lambda item: item.question, split, TRAIN_SHARES, path)]


def read_questions(path: Path) -> Iterator[Question]:
    """Yield the questions of a file in either layout."""
    return read_each(path, _question)


def _question(item: dict[str, Any], where: str, name: str) -> Question:
    if isinstance(item.get("question"), dict):
        place = f"{where}: question"
        inner = field(item, "question", dict, where)
        stem, options = text_field(inner, "stem", place), _listed(inner, place)
    else:
        stem = text_field(item, "question", where)
        options = _columns(field(item, "choices", dict, where), f"{where}: choices")
    letters = [letter for letter, _ in options]
    key = text_field(item, "answerKey", where)
    if len(set(letters)) != len(letters):
        raise InputError(f"{where}: two options have one label ({', '.join(letters)})")
    gold = right_option(key, letters, f"{where}: answerKey")
    return Question(stem, tuple(text for _, text in options), gold, id=name)


def _listed(item: dict[str, Any], where: str) -> list[tuple[str, str]]:
    """Return (label, text) of the authors' layout."""
    options = []
    for i, choice in enumerate(field(item, "choices", list, where)):
        place = f"{where}.choices[{i}]"
        if not isinstance(choice, dict):
            raise InputError(f"{place}: expected an object, found {type(choice).__name__}")
        options.append((text_field(choice, "label", place), text_field(choice, "text", place)))
    return options


def _columns(item: dict[str, Any], where: str) -> list[tuple[str, str]]:
    """Return (label, text) of the flat layout."""
    labels, texts = (field(item, name, list, where) for name in ("label", "text"))
    if len(labels) != len(texts):
        raise InputError(f"{where}: {len(labels)} labels for {len(texts)} texts")
    options = []
    for i, (label, text) in enumerate(zip(labels, texts, strict=True)):
        if not isinstance(label, str) or not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}: label[{i}] and text[{i}] must be strings, not empty")
        options.append((label.strip(), text.strip()))
    return options
