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
from datamodules.files import (
    SAMPLES,
    as_object,
    data_path,
    field,
    find,
    objects,
    one_of,
    read_lines,
    text_field,
)
from datamodules.json_files import read_json_object, read_objects
from datamodules.tables import hint
from zoo.errors import InputError
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
            paths = sorted(path for path in own.glob("[!.]*.json") if path.is_file())
            if not paths:
                raise InputError(f"{own}: no file ends in .json")
            return list(read_lists(paths))
        path = find(folder, "data.json")
        logs = list(read_logs(path))
        held = {
            name: _listed(folder, stem, {item.id for item in logs}) for name, stem in LISTS.items()
        }
        twice = sorted(held["val"] & held["test"])
        if twice:
            raise InputError(f"{folder}: {twice[0]} is both in {LISTS['val']} and {LISTS['test']}")
        if split == "train":
            return [item for item in logs if item.id not in held["val"] | held["test"]]
        return [item for item in logs if item.id in held[split]]


def read_lists(paths: list[Path]) -> Iterator[Dialogue]:
    """Yield the dialogues of files of form 2.2; `id` is `dialogue_id`."""
    for path in paths:
        for place, item in read_objects(path):
            where = f"{path}:{place}"
            turns = []
            for place, turn in objects(item, "turns", where):
                written = field(turn, "speaker", str, place)
                speaker = SPEAKERS[one_of("field 'speaker'", written, SPEAKERS, place)]
                turns.append(Turn(speaker, text_field(turn, "utterance", place)))
            yield _dialogue(turns, text_field(item, "dialogue_id", where), where)


def read_logs(path: Path) -> Iterator[Dialogue]:
    """Yield the dialogues of a `data.json` of form 2.0 or 2.1; `id` is the dialogue's name."""
    for name, item in read_json_object(path).items():
        where = f"{path}: {name}"
        turns = [
            Turn(SUPPORTER if i % 2 else SEEKER, text_field(turn, "text", place))
            for i, (place, turn) in enumerate(objects(as_object(item, where), "log", where))
        ]
        yield _dialogue(turns, name, where)


def _dialogue(turns: list[Turn], name: str, where: str) -> Dialogue:
    if all(turn.speaker != SUPPORTER for turn in turns):
        raise InputError(f"{where}: no turn of the system, so nothing to learn")
    return Dialogue(tuple(turns), id=name)


def _listed(folder: Path, stem: str, known: set[str]) -> set[str]:
    """Return the names in a list file.

    Raises:
        InputError: The data has no dialogue of such a name: with another spelling, a dialogue that
            is held out would be trained on.
    """
    path = find(folder, f"{stem}.txt", f"{stem}.json")
    names = set()
    for number, line in read_lines(path):
        name = line.strip()
        if name not in known:
            raise InputError(f"{path}:{number}: data.json has no {name!r}; {hint(name, known)}")
        names.add(name)
    return names
