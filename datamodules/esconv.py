"""ESConv: emotional support dialogues, a strategy on every supporter turn (Liu et al., ACL 2021).

Two published forms are read; the suffix and the files of the folder say which one it is:

- `ESConv.json`, the authors' single file: a list of dialogues whose turns hold `speaker`
  (`seeker` or `supporter`), `content` and `annotation` (`strategy`, or the seeker's `feedback`).
- `train.txt`, `valid.txt`, `test.txt` (or `.txt.gz`, `.jsonl`), the split of the authors' hub page:
  one dialogue a line, turns hold `speaker` (`usr` or `sys`), `text` and `strategy`. It has no
  feedback.

`ESConv.json` is not split. There the split is that of the authors' code: Python's shuffle with seed
13, then 15 percent of the dialogues for validation, 15 for test, the rest for training (910 / 195 /
195 of 1,300). No dialogue is in two splits.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, field, find, text_field
from datamodules.json_files import read_objects
from zoo.errors import InputError, nearest
from zoo.records import SEEKER, SUPPORTER, Dialogue, Record, Turn

SPEAKERS = {"seeker": SEEKER, "usr": SEEKER, "supporter": SUPPORTER, "sys": SUPPORTER}
HUB_NAMES = {"train": "train", "val": "valid", "test": "test"}


class ESConv(ZooDataModule):
    """ESConv as `Dialogue` records, one per conversation.

    Args:
        path: `ESConv.json`, or a folder with it or with the hub's three files. None reads five
            small dialogues that come with the package, the same for every split.
        split_seed: Seed of the split of `ESConv.json`; 13 is the authors'. The hub's files come
            split.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Dialogue,)

    def __init__(self, path: str | None = None, *, split_seed: int = 13, **loader: Any) -> None:
        super().__init__(**loader)
        self.path = path
        self.split_seed = split_seed

    def load(self, split: str) -> list[Record]:
        """Read the dialogues of a split."""
        if self.path is None:
            return list(read_dialogues(SAMPLES / "esconv.json"))
        path = data_path(self.path)
        if not path.name.endswith((".json", ".json.gz")):
            stem = HUB_NAMES[split]
            names = [f"{stem}.txt", f"{stem}.txt.gz", f"{stem}.jsonl", f"{stem}.jsonl.gz"]
            path = find(path, *names, "ESConv.json", "ESConv.json.gz")
        dialogues: list[Record] = list(read_dialogues(path))
        if ".json" not in path.suffixes:
            return dialogues
        return self._cut(dialogues, split, path)

    def _cut(self, dialogues: list[Record], split: str, path: Path) -> list[Record]:
        """Return a split's share of the authors' single file."""
        held = int(0.15 * len(dialogues))
        if held == 0:
            raise InputError(
                f"{path}: {len(dialogues)} dialogues are too few to split 70 / 15 / 15 percent"
            )
        order = list(dialogues)
        random.Random(self.split_seed).shuffle(order)  # as the authors' code, so not `shuffled`
        shares = {
            "val": order[:held],
            "test": order[held : 2 * held],
            "train": order[2 * held :],
        }
        return shares[split]


def read_dialogues(path: Path) -> Iterator[Dialogue]:
    """Yield the dialogues of one file of either form; `id` is the file's name and the line."""
    authors = ".json" in path.suffixes
    for number, item in read_objects(path) if authors else read_objects(path):
        yield _dialogue(item, f"{path}:{number}", f"{path.name}:{number}", authors)


def _dialogue(item: dict[str, Any], where: str, name: str, authors: bool) -> Dialogue:
    turns = []
    for position, turn in enumerate(field(item, "dialog", list, where)):
        place = f"{where}: dialog[{position}]"
        if not isinstance(turn, dict):
            raise InputError(f"{place}: expected an object, found {type(turn).__name__}")
        turns.append(_turn(turn, place, authors))
    if all(turn.speaker != SUPPORTER for turn in turns):
        raise InputError(f"{where}: field 'dialog' has no supporter turn, so nothing to learn")
    return Dialogue(
        turns=tuple(turns),
        emotion=field(item, "emotion_type", str, where),
        problem=field(item, "problem_type", str, where),
        situation=field(item, "situation", str, where).strip(),
        id=name,
    )


def _turn(turn: dict[str, Any], where: str, authors: bool) -> Turn:
    said = field(turn, "speaker", str, where)
    if said not in SPEAKERS:
        raise InputError(f"{where}: field 'speaker' is {said!r}; {nearest(said, SPEAKERS)}")
    speaker = SPEAKERS[said]
    notes, place = turn, where
    if authors:
        notes, place = field(turn, "annotation", dict, where), f"{where}.annotation"
    return Turn(
        speaker=speaker,
        text=text_field(turn, "content" if authors else "text", where),
        strategy=text_field(notes, "strategy", place) if speaker == SUPPORTER else "",
        feedback=_feedback(notes, place) if speaker == SEEKER else None,
    )


def _feedback(notes: dict[str, Any], where: str) -> int | None:
    """Return the rating, which the file writes as a string; not every seeker turn has one."""
    if notes.get("feedback") is None:
        return None
    value = str(notes["feedback"])
    if value not in {"1", "2", "3", "4", "5"}:
        raise InputError(f"{where}: field 'feedback' is {value!r}; one of: 1, 2, 3, 4, 5")
    return int(value)
