"""Prompts and responses under a condition told in words, in the chat form of MeGan's repository.

Files: JSON lines, one JSON list or Parquet, one sample each:

    {"messages": [{"role": "user", "content": "...", "instruction": "..."},
                  {"role": "assistant", "content": "...", "style": "..."}],
     "task": "...", "context": "...", "task_description": "..."}

The condition is one of `task_description` (a string), `user_profiles` (a list of lines) or `domain`
beside the messages, or `style` or `sentiment` in the assistant's message (or a message of its own
with that role). Optional: `instruction` in the user's message, `context` (text to read before the
question), `history` (text, or a list of `[user, assistant]` pairs), `task`.

What a record holds, as in the released preprocessing:

    condition         condition                           system
    task_description  the description                     the instruction
    user_profiles     instruction and profile lines       the same
    domain            instruction and `Domain: ...`       the same
    sentiment         `Reply with sentiment: ...`         the same
    style             a sentence that asks for the style  the same

No released sample has a style or a sentiment and an instruction too; here that instruction stands
before the sentence in the system turn, and the condition is the sentence alone.

Rows of other public forms are read too (`chat_forms`); Alpaca's `instruction` is the
`task_description` of its `input`. The rule for messages is that of `chat_messages`, with the user
first. The last reply is the one that is learned, so there `weight: 0` is refused. `instruction`,
`style` and `sentiment` of earlier messages belong to those and are not shown.

`context`, or a `history` that is a text, comes before the question in the prompt; pairs of
`history`, and turns before the last question, after the system text. With `wording` `raw` the
condition is the bare value, profiles one a line. The release tells the cases apart by words inside
the instruction; here the field's name decides.

Where a training file is set, the other splits say in `group` whether a condition's text is in it:
`seen` or `unseen`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from datamodules.conditioned_chat_samples import CONDITIONS, Sample, read_samples
from datamodules.files import data_path, first_few, shuffled
from datamodules.split_files import RowFiles
from datamodules.tables import SHARES, digest, divide
from datamodules.task_descriptions import read_task_texts, task_text
from zoo.errors import InputError
from zoo.records import Conditioned, Record

Field = Literal["", "task_description", "user_profiles", "domain", "style", "sentiment"]


class ConditionedChat(RowFiles):
    """Chats with a condition as `Conditioned` records.

    Files are `path` alone, or those of `RowFiles`: without `val`, a hash of the prompt gives 10
    percent of `train` to validation.

    Args:
        path: One file, divided by a hash of the prompt into 80 / 10 / 10 percent. None takes a file
            a split; where there is none either, the small sample that comes with the package.
        condition: Field that holds the condition; empty takes the one that a sample has.
        wording: `paper` writes the condition as the table above says, `raw` as it stands in the
            file.
        place: Where the prompt's own text about the condition (third column above) goes: `system`,
            `query` (after the question; profiles before it) or `none`.
        task_descriptions: YAML file from task to its `descriptions`, for samples that name a task
            but bring no condition. A hash of the prompt picks one of them.
        allow_missing: Take samples without a condition; theirs is empty.
        shuffle_conditions: Ablation: each sample gets the condition of another one of its split,
            which one depends on `seed`.
        seed: Seed of the order of the training batches and of shuffled conditions; the split does
            not depend on it.
        **files: A file a split, bad rows, batches and limits; see `RowFiles`.
    """

    record_types = (Conditioned,)
    sample = "conditioned_chat.jsonl"

    def __init__(
        self,
        path: str | None = None,
        *,
        condition: Field = "",
        wording: Literal["paper", "raw"] = "paper",
        place: Literal["system", "query", "none"] = "system",
        task_descriptions: str | None = None,
        allow_missing: bool = False,
        shuffle_conditions: bool = False,
        seed: int = 0,
        **files: Any,
    ) -> None:
        super().__init__(seed=seed, **files)
        if path is not None and any(self.paths.values()):
            raise InputError("set path, which is divided, or train, val and test, not both")
        self.path, self.condition, self.wording, self.place = path, condition, wording, place
        self.task_descriptions, self.allow_missing = task_descriptions, allow_missing
        self.shuffle_conditions = shuffle_conditions

    def load(self, split: str) -> list[Record]:
        """Read the samples of a split."""
        records = self._of_split(split)
        if split != "train" and (self.path or self.paths["train"]):
            known = {record.condition for record in self._of_split("train")}
            records = [grouped(record, known) for record in records]
        if self.shuffle_conditions:
            records = shuffled_conditions(records, self.seed)
        return list(records)

    def _of_split(self, split: str) -> list[Any]:
        if self.path is None:
            return list(super().load(split))
        records = list(self.read_file(data_path(self.path)))
        return divide(records, self.group_of, split, SHARES, self.path)

    def group_of(self, record: Any) -> str:
        """Return the prompt."""
        return record.prompt

    def read_file(self, path: Path) -> Iterator[Conditioned]:
        """Yield the records of a file."""
        samples = read_samples(path, self.condition, self.ignore, self.on_bad)
        if self.task_descriptions is not None:
            samples = described(samples, data_path(self.task_descriptions))
        missing = [sample.where for sample in samples if not sample.kind]
        if missing and not self.allow_missing:
            wanted = self.condition or ", ".join(CONDITIONS)
            raise InputError(
                f"{len(missing)} samples have no condition ({wanted}): "
                f"{first_few(missing, 5)}; set allow_missing to true to keep them"
            )
        for sample in samples:
            yield sample.record(self.wording, self.place)


def grouped(record: Conditioned, known: Collection[str]) -> Conditioned:
    """Return a record whose group says whether its condition is known; none without condition."""
    if not record.condition:
        return record
    return replace(record, group="seen" if record.condition in known else "unseen")


def shuffled_conditions(records: Sequence[Conditioned], seed: int) -> list[Conditioned]:
    """Return the records, each with condition and group of another one (if there is another one).

    A group says what is known of the condition, so it goes with it.
    """
    order = shuffled(range(len(records)), seed)
    donors = dict(zip(order, [*order[1:], *order[:1]], strict=True))
    given = [records[donors[i]] for i in range(len(records))]
    return [
        replace(record, condition=donor.condition, group=donor.group)
        for record, donor in zip(records, given, strict=True)
    ]


def described(samples: Iterable[Sample], path: Path) -> list[Sample]:
    """Give each sample without a condition a description of its task.

    Raises:
        InputError: A task is not in the file.
    """
    texts = read_task_texts(path)
    found = []
    for sample in samples:
        if not sample.kind and sample.task:
            options = task_text(texts, sample.task, sample.where, path)
            pick = options[int.from_bytes(digest(sample.question)[:4], "big") % len(options)]
            sample = sample.with_condition("task_description", (pick,))
        found.append(sample)
    return found
