"""What MELD and EmoryNLP share: scenes of the TV series Friends, a turn a row of a CSV file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, ClassVar

from datamodules.files import SAMPLES, data_path, find
from datamodules.scene_data import SceneData, check_names, scene_of
from datamodules.tables import cell, read_csv
from zoo.records import Scene, Turn

COLUMNS = ("Utterance", "Speaker", "Emotion", "Season", "Episode")


class Friends(SceneData):
    """Scenes of a CSV file a split; a subclass names the files and the columns of a scene.

    Args:
        path: Folder with the files, each plain or gzipped. None reads a small sample that comes
            with the package, the same for every split.
        **scenes: People and names, batches and limits; see `SceneData`.

    Raises:
        InputError: A column is missing, or a cell is empty or wrong; names the line.
    """

    sample: ClassVar[str]
    stems: ClassVar[dict[str, str]]  # split -> name of its file without `.csv`
    place: ClassVar[tuple[str, ...]]  # neighbouring rows that agree in these columns are a scene

    def __init__(self, path: str | None = None, **scenes: Any) -> None:
        super().__init__(**scenes)
        self.path = path

    def speaker(self, row: dict[str, str], where: str) -> str:
        """Return who speaks."""
        return cell(row, "Speaker", where)

    def read(self, split: str) -> Iterator[Scene]:
        """Yield the scenes of a split."""
        path = SAMPLES / self.sample
        if self.path is not None:
            name = f"{self.stems[split]}.csv"
            path = find(data_path(self.path), name, f"{name}.gz")
        rows = read_csv(path, *dict.fromkeys((*COLUMNS, *self.place)))
        for place, group in groupby(rows, key=lambda row: [row[1][name] for name in self.place]):
            turns, setting, where = [], "", ""
            for number, row in group:
                where = f"{path}:{number}"
                season, episode = cell(row, "Season", where), cell(row, "Episode", where)
                setting = f"Friends, season {season}, episode {episode}."
                speaker, text = self.speaker(row, where), cell(row, "Utterance", where)
                turns.append(Turn(speaker, text, emotion=cell(row, "Emotion", where)))
            check_names(dict.fromkeys(turn.speaker for turn in turns), where)
            yield scene_of(turns, f"{path.name}:{':'.join(place)}", setting)
