"""AQuA: algebra word problems with five options and a rationale (Ling et al., ACL 2017).

Files: `train.json`, `dev.json`, `test.json` of the authors' repository (97,467 / 254 / 254
problems; each may be gzipped), one object a line: `question`, `options` (`"A)..."` to `"E)..."`),
`rationale`, `correct` (a letter). Options lose their letters. The rationales are the crowd workers'
and often end with the letter; they are kept as they are. `hf://deepmind/aqua_rat` (see `hub.py`),
subset `raw`, has the same fields.

The splits are the authors'. Without `train.json`, dev is divided by a hash of the question: 80
percent train, 20 percent val (204 / 50 problems).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, field, find, text_field
from datamodules.hub import SPLIT_NAMES, is_hub, rows
from datamodules.json_files import read_each
from datamodules.tables import divide, present, right_option
from zoo.errors import InputError
from zoo.records import Question, Record

OPTION = re.compile(r"\(?([A-Z])\)\s*(.*)", re.DOTALL)
COLUMNS = ("question", "options", "rationale", "correct")
STEMS = {"train": "train", "val": "dev", "test": "test"}


class AQuA(ZooDataModule):
    """AQuA as `Question` records with a rationale.

    Args:
        path: Folder with the authors' files, or `hf://deepmind/aqua_rat`. None reads a small sample
            that comes with the package, the same for every split.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Question,)

    def __init__(self, path: str | None = None, **loader: Any) -> None:
        super().__init__(**loader)
        self.path = path

    def load(self, split: str) -> list[Record]:
        """Read the problems of a split."""
        if self.path is None:
            return list(read_problems(SAMPLES / "aqua.json"))
        if is_hub(
            self.path, *(f"{stem}.json{gz}" for stem in STEMS.values() for gz in ("", ".gz"))
        ):
            found = rows(self.path, SPLIT_NAMES[split], COLUMNS, "raw")
            return [_problem(item, where, name) for where, name, item in found]
        folder = data_path(self.path)
        divided = split != "test" and not present(folder, "train.json", "train.json.gz")
        stem = "dev" if divided else STEMS[split]
        path = find(folder, f"{stem}.json", f"{stem}.json.gz")
        problems = list(read_problems(path))
        if divided:
            shares = {"train": 80, "val": 20}
            problems = divide(problems, lambda item: item.question, split, shares, str(path))
        return [*problems]


def read_problems(path: Path) -> Iterator[Question]:
    """Yield the problems of a file."""
    return read_each(path, _problem)


def _problem(item: dict[str, Any], where: str, name: str) -> Question:
    options = _options(item, where)
    correct = text_field(item, "correct", where)
    return Question(
        text_field(item, "question", where),
        tuple(options.values()),
        right_option(correct, list(options), f"{where}: field 'correct'"),
        rationale=field(item, "rationale", str, where).strip(),
        id=name,
    )


def _options(item: dict[str, Any], where: str) -> dict[str, str]:
    """Return the options by letter."""
    options: dict[str, str] = {}
    for i, text in enumerate(field(item, "options", list, where)):
        match = OPTION.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None or not match[2] or match[1] != chr(ord("A") + i):
            raise InputError(
                f"{where}: options[{i}] is {text!r}, expected '{chr(ord('A') + i)})' and a text"
            )
        options[match[1]] = match[2]
    return options
