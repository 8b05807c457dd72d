"""ESConv: emotional support dialogues, a strategy on every supporter turn (Liu et al., ACL 2021).

Two published forms are read; the suffix and the files of the folder say which one it is:

- `ESConv.json`, the authors' single file: a list of dialogues whose turns hold `speaker`
  (`seeker` or `supporter`), `content` and `annotation` (`strategy`, or the seeker's `feedback`).
- `train.txt`, `valid.txt`, `test.txt` (or `.txt.gz`, `.jsonl`), the split of the authors' hub page:
  one dialogue a line, turns hold `speaker` (`usr` or `sys`), `text` and `strategy`. It has no
  feedback. The same lines are the column `text` of `hf://thu-coai/esconv` (see `hub.py`).

`ESConv.json` is not split. There the split is that of the authors' code: Python's shuffle with seed
13, then 15 percent of the dialogues for validation, 15 for test, the rest for training (910 / 195 /
195 of 1,300). No dialogue is in two splits. A folder with any of the
hub's files is read as the hub's: where one of them is missing, `ESConv.json` does not stand in.

Relatives of the same form are read too: `FailedESConv.json` has `speaker` and `listener`, and
spells two strategies `Questions` and `Other`; records hold the names in `STRATEGIES`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, field, find, objects, one_of, text_field
from datamodules.hub import SPLIT_NAMES, is_hub, rows
from datamodules.json_files import parse_object, read_each
from datamodules.tables import present
from zoo.errors import InputError, nearest
from zoo.records import SEEKER, SUPPORTER, Dialogue, Record, Turn

SPEAKERS = {
    **dict.fromkeys(("seeker", "usr", "speaker"), SEEKER),
    **dict.fromkeys(("supporter", "sys", "listener"), SUPPORTER),
}
STRATEGIES = (
    "Question",
    "Restatement or Paraphrasing",
    "Reflection of feelings",
    "Self-disclosure",
    "Affirmation and Reassurance",
    "Providing Suggestions",
    "Information",
    "Others",
)
"""The authors' eight strategies in their order."""

SPELLINGS = {
    **{name.lower(): name for name in STRATEGIES},
    "questions": "Question",
    "restatement": "Restatement or Paraphrasing",
    "paraphrasing": "Restatement or Paraphrasing",
    "reflection of feeling": "Reflection of feelings",
    "self disclosure": "Self-disclosure",
    "affirmation": "Affirmation and Reassurance",
    "reassurance": "Affirmation and Reassurance",
    "suggestions": "Providing Suggestions",
    "providing suggestion": "Providing Suggestions",
    "providing information": "Information",
    "other": "Others",
}
"""How ESConv and its relatives spell the strategies, in lower case; methods see one name."""

INTENSITIES = ("initial", "final")  # of the emotion, in the seeker's survey
HUB_NAMES = {"train": "train", "val": "valid", "test": "test"}
AUTHORS_FILES = ("ESConv.json", "ESConv.json.gz")


class ESConv(ZooDataModule):
    """ESConv as `Dialogue` records, one per conversation.

    Args:
        path: `ESConv.json`, a folder with it or with the hub's three files, or
            `hf://thu-coai/esconv`. None reads five small dialogues that come with the package, the
            same for every split.
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
        own = [name for stem in HUB_NAMES.values() for name in _hub_files(stem)]
        if is_hub(self.path, *own, *AUTHORS_FILES):
            return [
                _dialogue(parse_object(text_field(row, "text", where), where), where, name)
                for where, name, row in rows(self.path, SPLIT_NAMES[split], ("text",))
            ]
        path = data_path(self.path)
        single = path.name.endswith((".json", ".json.gz"))
        if not single:
            hub = {name: _hub_files(stem) for name, stem in HUB_NAMES.items()}
            if path.exists() and any(present(path, *names) for names in hub.values()):
                path = find(path, *hub[split])  # never a part of another form's split
            else:
                path, single = find(path, *AUTHORS_FILES, hub[split][0]), True
        dialogues: list[Record] = list(read_dialogues(path))
        return self._cut(dialogues, split, path) if single else dialogues

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
    """Yield the dialogues of a file of either form; `id` is its name and the place in it."""
    return read_each(path, _dialogue)


def _hub_files(stem: str) -> list[str]:
    return [f"{stem}{end}" for end in (".txt", ".txt.gz", ".jsonl", ".jsonl.gz")]


def _dialogue(item: dict[str, Any], where: str, name: str) -> Dialogue:
    turns = tuple(_turn(turn, place) for place, turn in objects(item, "dialog", where))
    if all(turn.speaker != SUPPORTER for turn in turns):
        raise InputError(f"{where}: field 'dialog' has no supporter turn, so nothing to learn")
    return Dialogue(
        turns=turns,
        emotion=field(item, "emotion_type", str, where),
        problem=field(item, "problem_type", str, where),
        situation=field(item, "situation", str, where).strip(),
        id=name,
        intensities=_intensities(item, where),
    )


def _turn(turn: dict[str, Any], where: str) -> Turn:
    """Return a turn of either form: the hub's has `text`, the authors' `content` and notes."""
    name = one_of("field 'speaker'", field(turn, "speaker", str, where), SPEAKERS, where)
    speaker = SPEAKERS[name]
    notes, place, text = turn, where, "text"
    if "text" not in turn:
        notes, place = field(turn, "annotation", dict, where), f"{where}.annotation"
        text = "content"
    return Turn(
        speaker=speaker,
        text=text_field(turn, text, where),
        strategy=_strategy(notes, place) if speaker == SUPPORTER else "",
        feedback=_feedback(notes, place) if speaker == SEEKER else None,
    )


def _strategy(notes: dict[str, Any], where: str) -> str:
    written = text_field(notes, "strategy", where)
    name = " ".join(written.lower().replace("_", " ").split())
    if name not in SPELLINGS:
        hint = nearest(written, STRATEGIES)
        raise InputError(f"{where}: unknown strategy {written!r}; {hint}")
    return SPELLINGS[name]


def _intensities(item: dict[str, Any], where: str) -> tuple[int | None, int | None]:
    """Return the seeker's ratings of the emotion before and after, where the survey has them."""
    survey = item.get("survey_score") or {}
    seeker = (survey.get("seeker") if isinstance(survey, dict) else None) or {}
    before, later = (_rating(seeker, f"{when}_emotion_intensity", where) for when in INTENSITIES)
    return before, later


def _feedback(notes: dict[str, Any], where: str) -> int | None:
    """Return the rating, which not every seeker turn has."""
    return _rating(notes, "feedback", where)


def _rating(notes: dict[str, Any], name: str, where: str) -> int | None:
    """Return a rating from 1 to 5, which the file writes as a string; None if there is none."""
    if notes.get(name) is None:
        return None
    value = str(notes[name])
    if value not in {"1", "2", "3", "4", "5"}:
        raise InputError(f"{where}: field {name!r} is {value!r}; one of: 1, 2, 3, 4, 5")
    return int(value)
