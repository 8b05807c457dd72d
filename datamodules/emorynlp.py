"""EmoryNLP: scenes of the TV series Friends, an emotion on every turn (Zahiri and Choi, 2018).

`emorynlp_train_final.csv`, `emorynlp_dev_final.csv`, `emorynlp_test_final.csv`, each plain or
gzipped, with the columns `Utterance`, `Speaker` (a list of names, as Python writes it), `Emotion`,
`Scene_ID`, `Season`, `Episode` and others. Rows of one season, episode and scene are a scene. Those
who speak at once are one more speaker, `Monica Geller and Phoebe Buffay`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from datamodules.files import SAMPLES, data_path, find
from datamodules.scene_data import SceneData, scene_of
from datamodules.tables import cell, read_csv
from zoo.errors import InputError
from zoo.records import Scene, Turn

STEMS = {"train": "train", "val": "dev", "test": "test"}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Scene_ID", "Season", "Episode")
PLACE = ("Season", "Episode", "Scene_ID")


class EmoryNLP(SceneData):
    """EmoryNLP as `Scene` records; scenes of one speaker are left out.

    Args:
        path: Folder with the files. None reads a small sample that comes with the package, the
            same for every split.
        **scenes: People and names, batches and limits; see `SceneData`.
    """

    def __init__(self, path: str | None = None, **scenes: Any) -> None:
        super().__init__(**scenes)
        self.path = path

    def read(self, split: str) -> Iterable[Scene]:
        """Yield the scenes of a split."""
        if self.path is None:
            return read_emorynlp(SAMPLES / "emorynlp.csv")
        stem = f"emorynlp_{STEMS[split]}_final"
        return read_emorynlp(find(data_path(self.path), f"{stem}.csv", f"{stem}.csv.gz"))


def read_emorynlp(path: Path) -> Iterator[Scene]:
    """Yield the scenes of a file.

    Raises:
        InputError: A column is missing, a cell is empty, or a speaker is no list of names.
    """
    rows = read_csv(path, *COLUMNS)
    for place, group in groupby(rows, key=lambda row: tuple(row[1][name] for name in PLACE)):
        turns = []
        for number, row in group:
            where = f"{path}:{number}"
            text, emotion = cell(row, "Utterance", where), cell(row, "Emotion", where)
            turns.append(Turn(speaker_of(row, where), text, emotion=emotion))
        setting = f"Friends, season {place[0]}, episode {place[1]}."
        yield scene_of(turns, f"{path.name}:{':'.join(place)}", setting)


def speaker_of(row: dict[str, str], where: str) -> str:
    """Return the names of a cell such as `['Monica Geller', 'Phoebe Buffay']` as one.

    Raises:
        InputError: It is something else; nothing in it is ever run.
    """
    written = cell(row, "Speaker", where)
    try:
        names = ast.literal_eval(written)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise InputError(f"{where}: column 'Speaker' is {written[:60]!r}; a list such as ['Ross']")
    if not all(name.strip() for name in names):
        raise InputError(f"{where}: column 'Speaker' has an empty name")
    return " and ".join(name.strip() for name in names)
