"""C-Eval and CMMLU: questions of Chinese exams with four options, in 52 and 67 subjects.

C-Eval (Huang et al., NeurIPS 2023): `dev/<subject>_dev.csv`, `val/<subject>_val.csv` with the
columns `question, A, B, C, D, answer`, beside them `id` and in dev `explanation`, which becomes the
rationale. Its test files have no answers and are not read.

CMMLU (Li et al., ACL Findings 2024): `dev/<subject>.csv`, `test/<subject>.csv` with the columns
`Question, A, B, C, D, Answer`.

Both in a folder or a zip archive, at any depth, or in the form of the hub, where each subject is a
subset: `hf://ceval/ceval-exam`, `hf://haonan-li/cmmlu` (see `hub.py`). `kind` is the subject with
blanks for underscores.

`test` is the authors' largest part with answers: C-Eval's 1,346 questions of val, CMMLU's 11,582 of
test. `train` and `val` are ours: dev, five examples a subject, by a hash of the question, 80 / 20
percent. Options are scored as those of every other `Question`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from datamodules import hub
from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, text_field
from datamodules.streams import hidden, visible_members
from datamodules.tables import divide, hint, read_csv, right_option
from zoo.errors import InputError
from zoo.records import Question, Record

LETTERS = ("A", "B", "C", "D")
SHARES = {"train": 80, "val": 20}
DEV = "dev"


class CEval(ZooDataModule):
    """C-Eval as `Question` records with the subject as `kind`.

    Args:
        path: Folder or zip archive of the subjects' files, or `hf://ceval/ceval-exam`. None reads a
            small sample that comes with the package.
        subjects: Names of the subjects to keep, with blanks or underscores; None keeps all.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Question,)

    sample: ClassVar[str] = "ceval.zip"
    tested: ClassVar[str] = "val"
    asked: ClassVar[str] = "question"
    answered: ClassVar[str] = "answer"
    explained: ClassVar[str | None] = "explanation"

    def __init__(
        self, path: str | None = None, *, subjects: list[str] | None = None, **loader: Any
    ) -> None:
        super().__init__(**loader)
        self.path, self.subjects = path, subjects

    def load(self, split: str) -> list[Record]:
        """Read the questions of a split, subject by subject in alphabetical order.

        Raises:
            InputError: A part or subject is missing, a row has no four options, or no answer.
        """
        part = self.tested if split == "test" else DEV
        path = str(SAMPLES / self.sample) if self.path is None else self.path
        read = self._from_hub if hub.is_hub(path) else self._from_files
        questions = list(read(path, part))
        if split != "test":
            questions = divide(questions, lambda item: item.question, split, SHARES, path)
        return list(questions)

    def _from_files(self, path: str, part: str) -> Iterator[Question]:
        folder = data_path(path)
        files = {
            file.stem.removesuffix(f"_{part}").replace("_", " "): file
            for file in part_files(folder, part)
        }
        for name in chosen(self.subjects, files, path):
            for number, row in read_csv(files[name], self.asked, *LETTERS, self.answered):
                file = f"{part}/{files[name].name}:{number}"
                yield self._question(row, name, f"{files[name]}:{number}", file)

    def _from_hub(self, path: str, part: str) -> Iterator[Question]:
        subsets = {name.replace("_", " "): name for name in hub.subsets(path)}
        for kind in chosen(self.subjects, subsets, path):
            columns = (self.asked, *LETTERS, self.answered)
            for where, name, row in hub.rows(path, (part,), columns, subsets[kind]):
                yield self._question(row, kind, where, f"{subsets[kind]}/{name}")

    def _question(self, row: Mapping[str, Any], kind: str, where: str, name: str) -> Question:
        why = row.get(self.explained) if self.explained else None
        return Question(
            text_field(row, self.asked, where),
            tuple(text_field(row, letter, where) for letter in LETTERS),
            right_option(text_field(row, self.answered, where), LETTERS, f"{where}: the letter"),
            rationale=why.strip() if isinstance(why, str) else "",
            kind=kind,
            id=name,
        )


class CMMLU(CEval):
    """CMMLU as `Question` records with the subject as `kind`.

    The arguments are those of `CEval`; `path` may be `hf://haonan-li/cmmlu`.
    """

    sample = "cmmlu.zip"
    tested = "test"
    asked = "Question"
    answered = "Answer"
    explained = None


def part_files(folder: Path, part: str) -> list[Path]:
    """Return the CSV files of a folder `part` in a folder or zip archive, at any depth.

    Raises:
        InputError: There are none.
    """
    if not folder.exists():
        raise InputError(f"{folder}: no such file or folder")
    if folder.is_dir():
        inside = [path.relative_to(folder) for path in folder.rglob("*.csv") if path.is_file()]
    else:
        inside = [Path(name) for name in visible_members(folder) if name.endswith(".csv")]
    files = sorted(folder / p for p in inside if p.parent.name == part and not hidden(p))
    if not files:
        raise InputError(f"{folder}: no CSV file in a folder {part!r}")
    return files


def chosen(wanted: list[str] | None, there: Mapping[str, Any], where: str) -> list[str]:
    """Return the subjects to keep, in alphabetical order.

    Raises:
        InputError: One is not there.
    """
    names = sorted({name.replace("_", " ") for name in wanted or there})
    for name in names:
        if name not in there:
            raise InputError(f"{where}: no subject {name!r}; {hint(name, there)}")
    return names
