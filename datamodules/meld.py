"""MELD: dialogues of the TV series Friends, an emotion on every turn (Poria et al., ACL 2019).

`train_sent_emo.csv`, `dev_sent_emo.csv`, `test_sent_emo.csv`, each plain or gzipped, with the
columns `Utterance`, `Speaker`, `Emotion`, `Dialogue_ID`, `Season`, `Episode` and others. Rows of
one `Dialogue_ID` are a dialogue, in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from datamodules.files import SAMPLES, data_path, find
from datamodules.scene_data import SceneData, scene_of
from datamodules.tables import cell, read_csv
from zoo.records import Scene, Turn

STEMS = {"train": "train_sent_emo", "val": "dev_sent_emo", "test": "test_sent_emo"}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Season", "Episode")


class MELD(SceneData):
    """MELD as `Scene` records, one per dialogue; those of one speaker are left out.

    Args:
        path: Folder with the files. None reads a small sample that comes with the package, the
            same for every split.
        **scenes: People and names, batches and limits; see `SceneData`.
    """

    def __init__(self, path: str | None = None, **scenes: Any) -> None:
        super().__init__(**scenes)
        self.path = path

    def read(self, split: str) -> Iterable[Scene]:
        """Yield the dialogues of a split."""
        if self.path is None:
            return read_meld(SAMPLES / "meld.csv")
        stem = STEMS[split]
        return read_meld(find(data_path(self.path), f"{stem}.csv", f"{stem}.csv.gz"))


def read_meld(path: Path) -> Iterator[Scene]:
    """Yield the dialogues of a file.

    Raises:
        InputError: A column is missing, or a cell is empty; names the line.
    """
    rows = read_csv(path, *COLUMNS)
    for name, group in groupby(rows, key=lambda row: row[1]["Dialogue_ID"]):
        turns, setting = [], ""
        for number, row in group:
            where = f"{path}:{number}"
            season, episode = cell(row, "Season", where), cell(row, "Episode", where)
            setting = f"Friends, season {season}, episode {episode}."
            speaker, text = cell(row, "Speaker", where), cell(row, "Utterance", where)
            turns.append(Turn(speaker, text, emotion=cell(row, "Emotion", where)))
        yield scene_of(turns, f"{path.name}:{name}", setting)
