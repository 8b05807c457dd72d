"""AQuA: algebra word problems with five options and a rationale (Ling et al., ACL 2017).

Files: `train.json`, `dev.json`, `test.json` of the authors' repository (97,467 / 254 / 254
problems; each may be gzipped), one object a line: `question`, `options` (`"A)..."` to `"E)..."`),
`rationale`, `correct` (a letter). Options lose their letters. The rationales are the crowd workers'
and often end with the letter; they are kept as they are.

The splits are the authors'. Without `train.json`, dev is divided by a hash of the question: 80
percent train, 20 percent val (204 / 50 problems).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, field, find, read_jsonl, text_field
from datamodules.tables import divide, present
from zoo.errors import InputError, nearest
from zoo.records import Question, Record

OPTION = re.compile(r"\(?([A-Z])\)\s*(.*)", re.DOTALL)
STEMS = {"train": "train", "val": "dev", "test": "test"}


class AQuA(ZooDataModule):
    """AQuA as `Question` records with a rationale.

    Args:
        path: Folder with the authors' files. None reads a small sample that comes with the package,
            the same for every split.
        batch_size: Examples per micro-batch in training.
        eval_batch_size: Examples per batch in validation, test and prediction.
        max_tokens: Close a training micro-batch before it exceeds this many tokens; None for no
            limit.
        max_train: Number of training records to keep; None keeps all.
        max_val: Number of validation records to keep; None keeps all.
        max_test: Number of test records to keep; None keeps all.
        seed: Seed of the order of the training batches; the split does not depend on it.
        num_workers: Processes that collate batches.
    """

    record_types = (Question,)

    def __init__(
        self,
        path: str | None = None,
        *,
        batch_size: int = 8,
        eval_batch_size: int = 16,
        max_tokens: int | None = None,
        max_train: int | None = None,
        max_val: int | None = None,
        max_test: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            max_tokens=max_tokens,
            max_train=max_train,
            max_val=max_val,
            max_test=max_test,
            seed=seed,
            num_workers=num_workers,
        )
        self.path = path

    def load(self, split: str) -> list[Record]:
        """Read the problems of a split."""
        if self.path is None:
            return list(read_problems(SAMPLES / "aqua.json"))
        folder = Path(self.path)
        divided = split != "test" and not present(folder, "train.json", "train.json.gz")
        stem = "dev" if divided else STEMS[split]
        path = find(folder, f"{stem}.json", f"{stem}.json.gz")
        problems = list(read_problems(path))
        if not divided:
            return list(problems)
        shares = {"train": 80, "val": 20}
        share = divide(problems, lambda item: item.question, split, shares, str(path))
        return list(share)


def read_problems(path: Path) -> Iterator[Question]:
    """Yield the problems of a file."""
    for number, item in read_jsonl(path):
        where = f"{path}:{number}"
        options = _options(item, where)
        correct = text_field(item, "correct", where)
        if correct not in options:
            raise InputError(
                f"{where}: field 'correct' is {correct!r}; {nearest(correct, options)}"
            )
        yield Question(
            text_field(item, "question", where),
            tuple(options.values()),
            list(options).index(correct),
            rationale=field(item, "rationale", str, where).strip(),
            id=f"{path.name}:{number}",
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
