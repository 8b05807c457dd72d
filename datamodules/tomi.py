"""ToMi: where is the object, and who believes it to be where (Le et al., EMNLP 2019).

Files: `fb_all_{train,val,test}.txt` (stories and questions, bAbI style) with the `.trace` beside
each (one line a question: the actions of the story, the question type, the story type). They may
lie in a folder or in the published `tomi_balanced_story_types.zip`.

A question becomes a `Triple`. `query` is the story, without line numbers, and the question;
`answer` the container as the file writes it; `thought` a belief trace, which a tracker derives from
the story alone (`datamodules/belief_tracker.py`), never from the answer.

`kind` follows the trace's question type: `memory`, `reality`, and for the belief questions
(`first_order_*`, `second_order_*`) `true_belief` where it ends in `_no_tom` and `false_belief`
where it ends in `_tom`: in the files exactly where the gold answer differs from the object's
present place. The story type (the trace's last field) is not used: a `true_belief` story can hold
false belief questions, since it tells when the move happened and not who saw it.

Tracker against gold, published files, right / all:

    question        train        val          test
    memory          999/999      999/999      999/999
    reality         999/999      999/999      999/999
    first order     1998/1998    1998/1998    1998/1998
    second order    1998/1998    1998/1998    1998/1998
    all             5994/5994    5994/5994    5994/5994

The second-order answers need a rule that was fitted to the published files: two agents count as
informed of each other where (a) a third agent enters the object's room at some point, even before
the object is there, or (b) the absent agent comes back, even if the other one has left. Without it
the tracker missed 419 / 384 / 361 questions. The trace names the one who entered, so it follows
from the story, but these answers are the data set's convention rather than sound reasoning.

Training leaves out a question whose gold answer is not the tracker's conclusion (none here);
validation and test keep all. `disagreements` counts them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from datamodules import belief_tracker as belief
from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, find, read_lines, shuffled
from zoo.errors import InputError, nearest
from zoo.records import Record, Triple

ARCHIVE = "tomi_balanced_story_types.zip"
LINE = re.compile(r"(\d+) (.+)")
FIRST = re.compile(r"Where will (\w+) look for the \w+\?")
SECOND = re.compile(r"Where does (\w+) think that (\w+) searches for the \w+\?")
MEMORY = re.compile(r"Where was the \w+ at the beginning\?")
REALITY = re.compile(r"Where is the \w+ really\?")
QUESTION_TYPES = ("memory", "reality") + tuple(
    f"{order}_order_{agent}_{tom}"
    for order in ("first", "second")
    for agent in (0, 1)
    for tom in ("tom", "no_tom")
)


class ToMi(ZooDataModule):
    """ToMi as `Triple` records, one per question.

    Args:
        path: The folder or the zip archive. None reads four small stories that come with the
            package, the same for every split.
        seed: Seed of the order of the training questions, which the file keeps together by story,
            and of the training batches. Validation and test questions are shuffled once for all, so
            that `max_val` and `max_test` keep the same mixed part in every run.
        **loader: Batches and limits; see `ZooDataModule`.
    """

    record_types = (Triple,)

    def __init__(self, path: str | None = None, *, seed: int = 0, **loader: Any) -> None:
        super().__init__(seed=seed, **loader)
        self.path = path
        self.disagreements: dict[str, int] = {}
        """Split -> questions of the file whose gold answer is not the tracker's conclusion."""

    def load(self, split: str) -> list[Record]:
        """Read the questions of a split, shuffled over stories and kinds."""
        texts = SAMPLES / "tomi.txt" if self.path is None else locate(data_path(self.path), split)
        pairs = list(read_questions(texts))
        odd = sum(conclusion != triple.answer for triple, conclusion in pairs)
        self.disagreements[split] = odd
        if split == "train" and odd:
            rank_zero_info(
                f"ToMi: {odd} of {len(pairs)} training questions left out: their gold answer "
                f"contradicts the story (see datamodules/tomi.py)"
            )
            pairs = [pair for pair in pairs if pair[0].answer == pair[1]]
        seed = self.seed if split == "train" else 0
        return [triple for triple, _ in shuffled(pairs, seed)]


def locate(path: Path, split: str) -> Path:
    """Return the `.txt` of a split in a folder, in the archive, or in a folder with the archive."""
    names = (f"fb_all_{split}.txt", f"{split}.txt")
    found = find(path, *names, ARCHIVE)
    return find(found, *names) if found.name == ARCHIVE else found


def read_questions(path: Path) -> Iterator[tuple[Triple, str]]:
    """Yield (record, the tracker's conclusion) for each question of a file and its `.trace`.

    Args:
        path: The `.txt`; the `.trace` of the same name must lie beside it.
    """
    traces = read_lines(path.with_suffix(".trace"))
    sentences: list[str] = []
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        match = LINE.fullmatch(line.rstrip())
        if match is None:
            raise InputError(f"{where}: expected a line number and a sentence, found {line[:60]!r}")
        if match[1] == "1":
            sentences = []
        if "\t" not in match[2]:
            sentences.append(match[2].strip())
            continue
        fields = match[2].split("\t")
        if len(fields) < 2 or not fields[1].strip():
            raise InputError(f"{where}: the question has no field 'answer' after its tab")
        question, answer = fields[0].strip(), fields[1].strip()
        trace = next(traces, None)
        if trace is None:
            raise InputError(f"{where}: {path.stem}.trace has no line for this question")
        thought, conclusion, order = _derive(sentences, question, where)
        kind = _kind(trace[1], order, f"{path.with_suffix('.trace')}:{trace[0]}")
        query = " ".join([*map(_sentence, sentences), question])
        name = f"{path.name}:{number}"
        yield Triple(query=query, thought=thought, answer=answer, kind=kind, id=name), conclusion
    if (trace := next(traces, None)) is not None:
        place = f"{path.with_suffix('.trace')}:{trace[0]}"
        raise InputError(f"{place}: more lines than {path.name} has questions")


def _derive(sentences: list[str], question: str, where: str) -> tuple[str, str, str]:
    """Return (thought, conclusion, order of the question)."""
    try:
        story = belief.track(sentences)
        if match := FIRST.fullmatch(question):
            return *belief.first_order(story, match[1]), "first_order"
        if match := SECOND.fullmatch(question):
            return *belief.second_order(story, match[1], match[2]), "second_order"
    except belief.StoryError as error:
        raise InputError(f"{where}: story of this question: {error}") from error
    if MEMORY.fullmatch(question):
        return *belief.memory(story), "memory"
    if REALITY.fullmatch(question):
        return *belief.reality(story), "reality"
    raise InputError(f"{where}: question not understood: {question!r}")


def _kind(trace: str, order: str, where: str) -> str:
    """Return the record's kind from a line of the `.trace`, checked against the question."""
    fields = trace.strip().split(",")
    question_type = fields[-2] if len(fields) > 1 else ""
    if question_type not in QUESTION_TYPES:
        hint = nearest(question_type, QUESTION_TYPES)
        raise InputError(f"{where}: field 'question type' is {question_type!r}; {hint}")
    if not question_type.startswith(order):
        raise InputError(
            f"{where}: field 'question type' is {question_type!r}, but the question is {order}"
        )
    if order in ("memory", "reality"):
        return order
    return "true_belief" if question_type.endswith("_no_tom") else "false_belief"


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
