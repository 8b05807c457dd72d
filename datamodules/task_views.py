"""One text, two questions about it: the condition alone says which one is asked.

Two real datasets, each text annotated twice, so that the same prompt has two right answers:

    source     text                             view        names
    clinc150   a query to an assistant          domain      10
                                                intent      150, or the first few of each domain
    esconv     a seeker's own situation         emotion     11
                                                problem     13

A view is told in words: ten wordings each, written for this project, eight for training and two
that are held out (`unseen`). A training record takes one of the eight by a hash of its text; in the
other splits a text comes twice with each view, with a training wording (`seen`) and a held-out one.

With `place: none` nothing but the condition tells the views apart. With `options` the system turn
lists the right answer and three others of its view in the wording of MeGan's released files, as its
placement has it, so the prompt tells them apart too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from datamodules.base import ZooDataModule
from datamodules.clinc150 import CLINC150, in_file_order
from datamodules.conditioned_chat import shuffled_conditions
from datamodules.esconv import ESConv
from datamodules.files import data_path
from datamodules.tables import digest
from zoo.errors import InputError, check_counts, nearest
from zoo.records import Conditioned, Record

WORDINGS = {
    "clinc150 domain": (
        "Name the domain that this query to an assistant belongs to.",
        "Say which area of life the request is about.",
        "Sort the request into a broad domain.",
        "Give the general topic of what the user wants.",
        "Which broad domain is it? Answer with the domain.",
        "Tell the department that would handle such a query.",
        "Find the wide category of the question.",
        "The answer is the domain, not the exact wish.",
        "Put the message into one of the large subject areas.",
        "Decide on the overall field of the user's words.",
    ),
    "clinc150 intent": (
        "Name the exact intent of the user.",
        "Say precisely what the user wants to be done.",
        "Sort the request into a specific intent.",
        "Give the particular action that is asked for.",
        "Which intent is it? Answer with the intent.",
        "Tell the single function that the assistant should call.",
        "Find the narrow purpose of the question.",
        "The answer is the exact wish, not the domain.",
        "Put the message into one of the fine classes of requests.",
        "Decide on the concrete goal behind the user's words.",
    ),
    "esconv emotion": (
        "Name the emotion that the writer feels.",
        "Say which feeling speaks from the text.",
        "Sort the text by the writer's emotion.",
        "Give the main feeling of this person.",
        "Which emotion is it? Answer with the emotion.",
        "Tell how the person feels, in one word.",
        "Find the mood behind the lines.",
        "The answer is the feeling, not its cause.",
        "Describe the state of heart in a single term.",
        "Decide on the sentiment that troubles the author.",
    ),
    "esconv problem": (
        "Name the problem that the writer has.",
        "Say what kind of trouble the text is about.",
        "Sort the text by the writer's problem.",
        "Give the cause of this person's distress.",
        "Which problem is it? Answer with the problem.",
        "Tell what has happened to the person, as a class.",
        "Find the difficulty behind the lines.",
        "The answer is the cause, not the feeling.",
        "Describe the sort of situation in a short term.",
        "Decide on the issue that troubles the author.",
    ),
}
HELD_OUT = 2  # wordings of each view, the last ones
OPTIONS = 4
LONGEST = 300  # characters of a text
SOURCES = ("clinc150", "esconv")


@dataclass(frozen=True, slots=True)
class Viewed:
    """A text with its answer under each view."""

    text: str
    answers: dict[str, str]
    id: str


class TaskViews(ZooDataModule):
    """Texts of CLINC150 and ESConv asked for two things each, as `Conditioned` records.

    Args:
        path: Folder that holds `clinc150/` and `esconv/`. None reads the small samples that come
            with the package.
        place: What the system turn says: `none`, nothing of the view, or `options`, four answers.
        sources: Where texts are from, `clinc150` and `esconv`; None for both.
        held_out: A view that training leaves out; in other splits its group is `unseen_task`.
        intents: Intents of each domain to keep, the first ones; None for all.
        max_texts: Texts of each source to keep in each split; None for all.
        shuffle_conditions: Ablation: each sample gets the condition of another one of its split.
        seed: Seed of the order of the training batches and of shuffled conditions.
        **loader: Batches and limits; see `ZooDataModule`.
    """

    record_types = (Conditioned,)

    def __init__(
        self,
        path: str | None = None,
        *,
        place: Literal["none", "options"] = "none",
        sources: list[str] | None = None,
        held_out: str = "",
        intents: int | None = None,
        max_texts: int | None = None,
        shuffle_conditions: bool = False,
        seed: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__(seed=seed, **loader)
        self.sources = [*SOURCES] if sources is None else sources
        for key, value, valid in (
            *(("sources", source, SOURCES) for source in self.sources),
            ("held_out", held_out, ("", *(v for v in WORDINGS if v.split()[0] in self.sources))),
        ):
            if value not in valid:
                raise InputError(f"{key} is {value!r}; {nearest(value, filter(None, valid))}")
        check_counts("data", {"intents": intents, "max_texts": max_texts})
        self.path, self.place, self.held_out = path, place, held_out
        self.intents, self.max_texts = intents, max_texts
        self.shuffle_conditions = shuffle_conditions
        self._names: dict[str, list[str]] = {}

    def load(self, split: str) -> list[Record]:
        """Read the texts of a split, in an order by their hash, and ask for each view.

        A text that training has is left out of the other splits.
        """
        records: list[Conditioned] = []
        for viewed in self._viewed(split):
            for view in viewed.answers:
                if split == "train" and view != self.held_out:
                    records.append(self._record(viewed, view, seen=True))
                elif split != "train":
                    records += [self._record(viewed, view, seen=seen) for seen in (True, False)]
        if self.shuffle_conditions:
            records = shuffled_conditions(records, self.seed)
        return list(records)

    def _viewed(self, split: str) -> list[Viewed]:
        chosen: list[Viewed] = []
        readers: dict[str, Callable[[str], Iterator[Viewed]]] = {
            "clinc150": self._queries,
            "esconv": self._situations,
        }
        for source in [readers[name] for name in SOURCES if name in self.sources]:
            texts = {viewed.text: viewed for viewed in source(split)}
            known: set[str] = set()
            if split != "train" and self.path is not None:  # ESConv tells a situation twice
                known = {viewed.text for viewed in source("train")}
            short = [text for text in texts if 0 < len(text) <= LONGEST and text not in known]
            order = sorted(short, key=digest)[: self.max_texts]
            chosen += [texts[text] for text in order]
        return sorted(chosen, key=lambda viewed: digest(viewed.text))

    def _queries(self, split: str) -> Iterator[Viewed]:
        records: Any = CLINC150(self._folder("clinc150")).records(split)
        for record in in_file_order(records):
            domain, intent = record.labels
            if intent in record.taxonomy.below((domain,))[: self.intents]:
                answers = {"clinc150 domain": domain, "clinc150 intent": intent}
                yield Viewed(record.text, answers, record.id)

    def _situations(self, split: str) -> Iterator[Viewed]:
        records: Any = ESConv(self._folder("esconv")).records(split)
        for record in records:
            answers = {
                "esconv emotion": record.emotion.lower(),
                "esconv problem": record.problem.lower(),
            }
            yield Viewed(" ".join(record.situation.split()), answers, record.id)

    def _folder(self, name: str) -> str | None:
        return None if self.path is None else str(data_path(self.path) / name)

    def _record(self, viewed: Viewed, view: str, *, seen: bool) -> Conditioned:
        wordings = WORDINGS[view][:-HELD_OUT] if seen else WORDINGS[view][-HELD_OUT:]
        answer = viewed.answers[view]
        group = "seen" if seen else "unseen"
        return Conditioned(
            condition=wordings[draw(f"{viewed.text}/{view}", len(wordings))],
            prompt=viewed.text,
            response=answer,
            system=self._options(viewed.text, view, answer) if self.place == "options" else "",
            task=view,
            group="unseen_task" if view == self.held_out else group,
            id=f"{viewed.id} {view} {group}",
        )

    def _options(self, text: str, view: str, answer: str) -> str:
        """Return the right answer and three others of the training split, in a drawn order."""
        if not self._names:
            for viewed in self._viewed("train"):
                for name, value in viewed.answers.items():
                    self._names.setdefault(name, []).append(value)
        others = sorted({*self._names[view]} - {answer}, key=lambda name: digest(text + name))
        shown = sorted([answer, *others[: OPTIONS - 1]], key=lambda name: digest(name + text))
        return listed(shown)


def listed(names: Sequence[str]) -> str:
    """Return answers as MeGan's released files list them."""
    return f"which of the following answers is the most appropriate:\n[{'; '.join(names)}; ]"


def draw(text: str, count: int) -> int:
    """Return a number below `count` that depends on a text only."""
    return int.from_bytes(digest(text)[:4], "big") % count
