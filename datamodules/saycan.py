"""SayCan-style instructions: which skill of a robot serves what was said (Ahn et al., CoRL 2022).

JSONL, one instruction a line: {"instruction": "bring me something to drink", "skills": ["pick up
the coke can"]}. The documents are all skills of the list file, one a line, or else of all the
instructions, in alphabetical order; the named skills are relevant.

Known of the paper's data: 551 skills and 276 thousand trajectories, every one an instruction with
what the robot did. Unknown, chosen here: the file's form, one instruction with several skills (all
of them are relevant, the order does not count), and the split, by a hash of the instruction,
80 / 10 / 10 percent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, read_lines, text_field
from datamodules.json_files import read_objects
from datamodules.judged_queries import divided, names_corpus, ranking
from datamodules.tables import SAMPLE_SHARES, SHARES, hint, only, text_list
from zoo.errors import InputError
from zoo.records import Ranking, Record

FIELDS = ("instruction", "skills")


class SayCan(ZooDataModule):
    """SayCan-style instructions as `Ranking` records over all skills.

    Args:
        path: The JSONL file. None reads a small one that comes with the package.
        skills: File with all skills, one a line; None takes those that the instructions name.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Ranking,)

    def __init__(
        self, path: str | None = None, *, skills: str | None = None, **loader: Any
    ) -> None:
        super().__init__(**loader)
        self.path, self.skills = path, skills
        self._all: list[Ranking] = []

    def load(self, split: str) -> list[Record]:
        """Read the instructions of a split."""
        path = SAMPLES / "saycan.jsonl" if self.path is None else data_path(self.path)
        if not self._all:
            self._all = read_instructions(path, data_path(self.skills) if self.skills else None)
        shares = SAMPLE_SHARES if self.path is None else SHARES
        return divided(self._all, split, shares, path)


def read_skills(path: Path) -> list[str]:
    """Return the skills of a list file, one a line.

    Raises:
        InputError: A skill is there twice.
    """
    line_of: dict[str, int] = {}
    for number, line in read_lines(path):
        name = line.strip()
        if line_of.setdefault(name, number) != number:
            raise InputError(f"{path}:{number}: skill {name!r} is there twice, see {line_of[name]}")
    return list(line_of)


def read_instructions(path: Path, list_file: Path | None) -> list[Ranking]:
    """Return the records of a JSONL file.

    Args:
        path: The file.
        list_file: File with all skills; None for those of the instructions.
    """
    rows = []
    for place, item in read_objects(path):
        where = f"{path}:{place}"
        only(item, FIELDS, where)
        rows.append((where, item, text_list(item, "skills", where)))
    if list_file is None:
        names = sorted({name for _, _, skills in rows for name in skills})
    else:
        names = read_skills(list_file)
    corpus = names_corpus(names)
    records = []
    for where, item, skills in rows:
        for name in skills:
            if name not in corpus.documents:
                raise InputError(f"{where}: unknown skill {name!r}; {hint(name, corpus.documents)}")
        text = text_field(item, "instruction", where)
        relevant = dict.fromkeys(skills, 1)
        records.append(ranking(where, text, corpus, relevant, id=Path(where).name))
    return records
