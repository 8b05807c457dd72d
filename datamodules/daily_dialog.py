"""DailyDialog: everyday talk, an act and an emotion on every turn (Li et al., IJCNLP 2017).

Three files a split, one dialogue a line, in a folder or in one folder per split (`train/`,
`validation/`, `test/`), plain or gzipped:

- `dialogues_train.txt`: utterances, each with `__eou__` behind it;
- `dialogues_act_train.txt`: a number for each, 1 to 4 (`ACTS`);
- `dialogues_emotion_train.txt`: a number for each, 0 to 6 (`EMOTIONS`).

`valid` or `validation` names the second split. Published sizes: 11,118 / 1,000 / 1,000 dialogues.

Or `hf://li2017dailydialog/daily_dialog` (see `hub.py`): `dialog`, `act`, `emotion`, lists of one
length with the same numbers; a script today, so `@refs/convert/parquet`.

The speakers take turns: the first one becomes the seeker, the other one the supporter, and the act
stands as `strategy` on the turns of both. A dialogue of one utterance is left out.

Some copies have the labels of `train` but not its text. There `train` is an error, unless
`divide_valid` is set: then a hash of the line divides valid, 90 percent train and 10 percent val.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules import hub
from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, field, find, read_lines
from datamodules.tables import divide, present, text_list
from zoo.errors import InputError
from zoo.records import SEEKER, SUPPORTER, Dialogue, Record, Turn

ACTS = ("inform", "question", "directive", "commissive")
"""The acts, in the order of the numbers 1 to 4."""

EMOTIONS = ("no emotion", "anger", "disgust", "fear", "happiness", "sadness", "surprise")
"""The emotions, in the order of the numbers 0 to 6."""

STEMS = {"train": ("train",), "val": ("valid", "validation"), "test": ("test",)}
END = "__eou__"


class DailyDialog(ZooDataModule):
    """DailyDialog as `Dialogue` records, one per conversation.

    Args:
        path: Folder with the files, or `hf://li2017dailydialog/daily_dialog@refs/convert/parquet`.
            None reads a small sample that comes with the package, the same for every split.
        divide_valid: Take both `train` and `val` from the valid files.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Dialogue,)

    def __init__(
        self, path: str | None = None, *, divide_valid: bool = False, **loader: Any
    ) -> None:
        super().__init__(**loader)
        self.path, self.divide_valid = path, divide_valid

    def load(self, split: str) -> list[Record]:
        """Read the conversations of a split."""
        if self.path is None:
            names = ("dailydialog.txt", "dailydialog_act.txt", "dailydialog_emotion.txt")
            return list(read_conversations(*(SAMPLES / name for name in names)))
        divided = self.divide_valid and split != "test"
        source = "val" if divided else split
        dialogues: list[Record]
        if hub.is_hub(self.path):
            found = hub.rows(self.path, hub.SPLIT_NAMES[source], ("dialog", "act", "emotion"))
            dialogues = [item for row in found for item in _from_hub(*row)]
        else:
            dialogues = list(read_conversations(*_split_files(data_path(self.path), source)))
        if not divided:
            return dialogues
        shares = {"train": 90, "val": 10}
        return [*divide([*dialogues], lambda item: item.id, split, shares, self.path)]


def _split_files(path: Path, split: str) -> tuple[Path, Path, Path]:
    """Return the files of a split: texts, acts, emotions."""
    stems = STEMS[split]
    folder = _folder(path, stems)
    acts, emotions = (
        find(folder, *_names(f"dialogues_{kind}", stems)) for kind in ("act", "emotion")
    )
    texts = _names("dialogues", stems)
    if not present(folder, *texts):
        raise InputError(
            f"{folder}: {acts.name} is there but not the text, {texts[0]}; put the text of the "
            f"official release beside it"
            + (", or set divide_valid to take train from valid" if split == "train" else "")
        )
    return find(folder, *texts), acts, emotions


def _from_hub(where: str, name: str, row: dict[str, Any]) -> list[Dialogue]:
    utterances = text_list(row, "dialog", where)
    labelled = []
    for column, first, options in (("act", 1, ACTS), ("emotion", 0, EMOTIONS)):
        numbers = {text: str(number) for number, text in enumerate(options, start=first)}
        cells = " ".join(str(numbers.get(x, x)) for x in field(row, column, list, where))
        place = f"{where}: {column}"
        labelled.append(_numbers(cells, place, len(utterances), first, options))
    return _conversation(utterances, labelled, name)


def _conversation(utterances: list[str], labels: list[list[str]], name: str) -> list[Dialogue]:
    """Return the conversation, from the acts and the emotions; none if it has one utterance."""
    turns = tuple(
        Turn(SUPPORTER if i % 2 else SEEKER, text, strategy=act, emotion=emotion)
        for i, (text, act, emotion) in enumerate(zip(utterances, *labels, strict=True))
    )
    return [Dialogue(turns, id=name)] if len(turns) > 1 else []


def read_conversations(texts: Path, acts: Path, emotions: Path) -> Iterator[Dialogue]:
    """Yield the conversations of a split with more than one utterance; `id` is file and line.

    Raises:
        InputError: The files differ in lines, or a line in utterances; a number is out of range.
    """
    lines = list(read_lines(texts))
    labels = {path: dict(read_lines(path)) for path in (acts, emotions)}
    for path, numbered in labels.items():
        odd = sorted({number for number, _ in lines} ^ set(numbered))
        if odd:
            raise InputError(
                f"{path}:{odd[0]}: {len(numbered)} lines, but {texts.name} has {len(lines)}"
            )
    for number, line in lines:
        where = f"{texts}:{number}"
        utterances = [part.strip() for part in line.split(END)]
        if utterances.pop() or not all(utterances):
            raise InputError(f"{where}: every utterance needs words and {END} behind them")
        labelled = [
            _numbers(labels[path][number], f"{path}:{number}", len(utterances), first, options)
            for path, first, options in ((acts, 1, ACTS), (emotions, 0, EMOTIONS))
        ]
        yield from _conversation(utterances, labelled, f"{texts.name}:{number}")


def _numbers(line: str, where: str, length: int, first: int, options: tuple[str, ...]) -> list[str]:
    cells = line.split()
    if len(cells) != length:
        raise InputError(f"{where}: {len(cells)} numbers for {length} utterances")
    last = first + len(options) - 1
    names = {str(number): name for number, name in enumerate(options, start=first)}
    for cell in cells:
        if cell not in names:
            raise InputError(f"{where}: {cell!r}, expected a number from {first} to {last}")
    return [names[cell] for cell in cells]


def _folder(path: Path, stems: tuple[str, ...]) -> Path:
    """Return the split's own folder if there is one."""
    return next((path / stem for stem in stems if (path / stem).is_dir()), path)


def _names(start: str, stems: tuple[str, ...]) -> list[str]:
    return [f"{start}_{stem}.txt{end}" for stem in stems for end in ("", ".gz")]
