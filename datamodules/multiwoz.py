"""MultiWOZ: task-oriented dialogues over several domains (Budzianowski et al., EMNLP 2018).

Two published forms are read; the files of the folder say which one it is:

- 2.2 and later: folders `train`, `dev`, `test` with `dialogues_001.json`, ..., each a list of
  `{dialogue_id, services, turns: [{speaker: USER | SYSTEM, utterance, ...}]}`;
- 2.0 and 2.1: `data.json`, an object from name to `{goal, log: [{text, ...}]}`, where user and
  system take turns, with `valListFile` and `testListFile` (`.txt` or `.json`, a name a line); what
  neither of them names is `train`.

A dialogue becomes a `Dialogue`: the user is the seeker, the system the supporter. None of the
annotations is used. Published sizes: 8,438 / 1,000 / 1,000 (2.2: 8,437 to train).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, field, find, read_lines, text_field
from datamodules.json_files import read_json_object, read_objects
from datamodules.tables import members
from zoo.errors import InputError, nearest
from zoo.records import SEEKER, SUPPORTER, Dialogue, Record, Turn

SPEAKERS = {"USER": SEEKER, "SYSTEM": SUPPORTER}
FOLDERS = {"train": "train", "val": "dev", "test": "test"}
LISTS = {"val": "valListFile", "test": "testListFile"}


class MultiWOZ(ZooDataModule):
    """MultiWOZ as `Dialogue` records.

    Args:
        path: Folder with the files of either form. None reads a small sample that comes with the
            package, the same for every split.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Dialogue,)

    def __init__(self, path: str | None = None, **loader: Any) -> None:
        super().__init__(**loader)
        self.path = path

    def load(self, split: str) -> list[Record]:
        """Read the dialogues of a split."""
        if self.path is None:
            return list(read_lists([SAMPLES / "multiwoz.json"]))
        folder = data_path(self.path)
        own = folder / FOLDERS[split]
        if own.is_dir():
            return list(read_lists(members(own, ".json")))
        path = find(folder, "data.json")
        held = {name: _listed(folder, stem) for name, stem in LISTS.items()}
        twice = sorted(held["val"] & held["test"])
        if twice:
            raise InputError(f"{folder}: {twice[0]} is both in {LISTS['val']} and {LISTS['test']}")
        logs = read_logs(path)
        if split == "train":
            return [item for item in logs if item.id not in held["val"] | held["test"]]
        return [item for item in logs if item.id in held[split]]


def read_lists(paths: list[Path]) -> Iterator[Dialogue]:
    """Yield the dialogues of files of form 2.2; `id` is `dialogue_id`."""
    for path in paths:
        for number, item in read_objects(path):
            where = f"{path}:{number}"
            turns = []
            for position, turn in enumerate(field(item, "turns", list, where)):
                place = f"{where}: turns[{position}]"
                if not isinstance(turn, dict):
                    raise InputError(f"{place}: expected an object")
                said = field(turn, "speaker", str, place)
                if said not in SPEAKERS:
                    hint = nearest(said, SPEAKERS)
                    raise InputError(f"{place}: field 'speaker' is {said!r}; {hint}")
                turns.append(Turn(SPEAKERS[said], text_field(turn, "utterance", place)))
            yield _dialogue(turns, text_field(item, "dialogue_id", where), where)


def read_logs(path: Path) -> Iterator[Dialogue]:
    """Yield the dialogues of a `data.json` of form 2.0 or 2.1; `id` is the dialogue's name."""
    for name, item in read_json_object(path).items():
        where = f"{path}: {name}"
        if not isinstance(item, dict):
            raise InputError(f"{where}: expected an object with a 'log'")
        turns = []
        for position, turn in enumerate(field(item, "log", list, where)):
            place = f"{where}: log[{position}]"
            if not isinstance(turn, dict):
                raise InputError(f"{place}: expected an object")
            speaker = SUPPORTER if position % 2 else SEEKER
            turns.append(Turn(speaker, text_field(turn, "text", place)))
        yield _dialogue(turns, name, where)


def _dialogue(turns: list[Turn], name: str, where: str) -> Dialogue:
    if all(turn.speaker != SUPPORTER for turn in turns):
        raise InputError(f"{where}: no turn of the system, so nothing to learn")
    return Dialogue(tuple(turns), id=name)


def _listed(folder: Path, stem: str) -> set[str]:
    """Return the names in a list file."""
    path = find(folder, f"{stem}.txt", f"{stem}.json")
    return {line.strip() for _, line in read_lines(path)}
