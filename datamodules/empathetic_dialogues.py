"""EmpatheticDialogues: somebody tells of a feeling, somebody listens (Rashkin et al., ACL 2019).

Two forms are read, an utterance a line, cells between commas; a comma in a text is `_comma_`, or
the text stands in quotes, as programs write it that save the file again:

- the authors' `train.csv`, `valid.csv`, `test.csv`: `conv_id, utterance_idx, context, prompt,
  speaker_idx, utterance, selfeval, tags`, where `context` is the emotion;
- copies that go around as `fixed_valid.csv`, `fixed_test.csv`: `conv_id, utterance_idx, prompt,
  utterance` and, in valid only, `label`, the emotion's number (`EMOTIONS`). The test file has no
  emotion, so it is empty there. These copies have no train file.

All may be gzipped. The first form has a page too, `hf://facebook/empathetic_dialogues` (see
`hub.py`), a script today, so `@refs/convert/parquet`.

A conversation becomes a `Dialogue`: the emotion, the prompt as situation, odd
utterances as seeker turns and even ones as supporter turns; there is no strategy. Conversations
with one utterance have no supporter turn and are left out: 1 of 2,770 in valid, none of 2,547 in
test. Published sizes: 19,533 / 2,770 / 2,547 conversations, 32 emotions.

Without a train file `train` is an error, unless `divide_valid` is set: then a hash of the
conversation's id divides valid, 90 percent train and 10 percent val (2,493 / 276).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datamodules import hub
from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, field, find, read_lines
from datamodules.tables import divide, hint, present, unquoted
from zoo.errors import InputError, nearest
from zoo.records import SEEKER, SUPPORTER, Dialogue, Record, Turn

EMOTIONS = (
    "sad",
    "trusting",
    "terrified",
    "caring",
    "disappointed",
    "faithful",
    "joyful",
    "jealous",
    "disgusted",
    "surprised",
    "ashamed",
    "afraid",
    "impressed",
    "sentimental",
    "devastated",
    "excited",
    "anticipating",
    "annoyed",
    "anxious",
    "furious",
    "content",
    "lonely",
    "angry",
    "confident",
    "apprehensive",
    "guilty",
    "embarrassed",
    "grateful",
    "hopeful",
    "proud",
    "prepared",
    "nostalgic",
)
"""The emotions, in the order of the numbers in `fixed_valid.csv`."""

NEEDED = ("conv_id", "utterance_idx", "prompt", "utterance")
STEMS = {"train": "train", "val": "valid", "test": "test"}


class EmpatheticDialogues(ZooDataModule):
    """EmpatheticDialogues as `Dialogue` records, one per conversation.

    Args:
        path: Folder with the files of either form, or
            `hf://facebook/empathetic_dialogues@refs/convert/parquet`. None reads a small sample
            that comes with the package, the same for every split.
        divide_valid: Take both `train` and `val` from the valid file.
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
            return list(read_conversations(SAMPLES / "empathetic_dialogues.csv"))
        divided = self.divide_valid and split != "test"
        source = "val" if divided else split
        if hub.is_hub(self.path, *(name for part in STEMS for name in _names(part))):
            rows = hub.rows(self.path, hub.SPLIT_NAMES[source], (*NEEDED, "context"))
            dialogues = _conversations((where, _texts(row, where)) for where, _, row in rows)
        else:
            dialogues = read_conversations(_split_file(data_path(self.path), source))
        if not divided:
            return list(dialogues)
        shares = {"train": 90, "val": 10}
        return [*divide([*dialogues], lambda item: item.id, split, shares, self.path)]


def _split_file(folder: Path, split: str) -> Path:
    names = _names(split)
    if split == "train" and folder.is_dir() and not present(folder, *names):
        raise InputError(
            f"{folder}: no train file ({', '.join(names)}); set divide_valid to true to take "
            "train from the valid file"
        )
    return find(folder, *names)


def read_conversations(path: Path) -> Iterator[Dialogue]:
    """Yield the conversations of a file that have a supporter turn; `id` is their `conv_id`.

    The rows of a conversation may lie anywhere in the file; `utterance_idx` says their order.

    Raises:
        InputError: An utterance is missing or there twice.
    """
    return _conversations(read_utterances(path))


def _conversations(rows: Iterable[tuple[str, dict[str, str]]]) -> Iterator[Dialogue]:
    conversations: dict[str, list[tuple[int, str, dict[str, str]]]] = {}
    for where, row in rows:
        numbered = (_number(row["utterance_idx"], where), where, row)
        conversations.setdefault(row["conv_id"], []).append(numbered)
    for name, utterances in conversations.items():
        utterances.sort(key=lambda utterance: utterance[0])
        for expected, (number, where, _) in enumerate(utterances, start=1):
            if number != expected:
                raise InputError(
                    f"{where}: 'utterance_idx' is {number} in {name}, expected {expected}: an "
                    "utterance is missing or there twice"
                )
        turns = tuple(_turn(number, row, where) for number, where, row in utterances)
        if any(turn.speaker == SUPPORTER for turn in turns):
            _, where, first = utterances[0]
            yield Dialogue(turns, _emotion(first, where), situation=first["prompt"], id=name)


def read_utterances(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield `(place for errors, row by column)` for each utterance."""
    lines = read_lines(path)
    number, head = next(lines)
    header = [name.strip() for name in head.split(",")]
    for name in NEEDED:
        if name not in header:
            hinted = nearest(name, header)
            raise InputError(f"{path}:{number}: column {name!r} is missing; {hinted}")
    least = 1 + max(header.index(name) for name in NEEDED)
    for number, line in lines:
        where = f"{path}:{number}"
        cells = _cells(line, len(header), where)
        if len(cells) < least or any(cells[len(header) :]):
            raise InputError(
                f"{where}: {len(cells)} cells between commas, expected {len(header)}; a comma "
                "inside a text is written _comma_, or the text stands in quotes"
            )
        yield where, dict(zip(header, cells, strict=False))


def _texts(row: dict[str, Any], where: str) -> dict[str, str]:
    """Return a row of the hub as the row of a file; there `utterance_idx` is a number."""
    texts = {"utterance_idx": str(row["utterance_idx"])}
    for name in ("conv_id", "context", "prompt", "utterance"):
        texts[name] = field(row, name, str, where).replace("_comma_", ",").strip()
    return texts


def _cells(line: str, count: int, where: str) -> list[str]:
    """Return the cells of a line, by the rules of CSV.

    The copies hold cells that begin with a word in quotes, which CSV has not: there commas alone
    separate, and there must be as many cells as columns.
    """
    try:
        cells = next(csv.reader([line], strict=True))
    except csv.Error as error:
        cells = [unquoted(cell) for cell in line.split(",")]
        if len(cells) != count:
            raise InputError(f"{where}: invalid CSV: {error}") from error
    return [cell.replace("_comma_", ",").strip() for cell in cells]


def _number(text: str, where: str) -> int:
    if not text.isdecimal() or len(text) > 4 or int(text) < 1:
        raise InputError(f"{where}: column 'utterance_idx' is {text!r}, expected 1, 2, 3, ...")
    return int(text)


def _turn(number: int, row: dict[str, str], where: str) -> Turn:
    if not row["utterance"]:
        raise InputError(f"{where}: column 'utterance' is empty")
    return Turn(SEEKER if number % 2 else SUPPORTER, row["utterance"])


def _emotion(row: dict[str, str], where: str) -> str:
    """Return the emotion's name; empty if the file has no column for it."""
    if "context" in row:
        if row["context"] not in EMOTIONS:
            known = hint(row["context"], EMOTIONS)
            raise InputError(f"{where}: column 'context' is {row['context']!r}; {known}")
        return row["context"]
    label = row.get("label")
    if label is None:
        return ""
    if label not in map(str, range(len(EMOTIONS))):
        raise InputError(f"{where}: column 'label' is {label!r}, expected 0 to {len(EMOTIONS) - 1}")
    return EMOTIONS[int(label)]


def _names(split: str) -> list[str]:
    stem = STEMS[split]
    return [f"{start}{stem}.csv{end}" for start in ("", "fixed_") for end in ("", ".gz")]
