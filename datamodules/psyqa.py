"""PsyQA: questions to counsellors, answers labelled with strategies (Sun et al., 2021).

The authors' file is a JSON list; an item has `question`, `description`, `answers`; an answer has
`answer_text`, `has_label` and, if that is true, `labels_sequence` with `start`, `end` (characters)
and `type`, one of seven strategies. The full file is given out on request; the authors' repository
holds an example.

Task, PsyQA-style: question and description are the query, the seven names of strategies the
documents, those that a labelled answer uses are relevant. Answers without labels are left out.

Unknown in the paper, chosen here: how several strategies of one answer count. Its numbers (MRR 58
with R@3 78) fit one query per answer and strategy, with one relevant document: `positives: each`.
There is no published split; ours is by a hash of the question, 80 / 10 / 10 percent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from datamodules.base import ZooDataModule
from datamodules.files import SAMPLES, data_path, field, text_field
from datamodules.json_files import read_objects
from datamodules.judged_queries import names_corpus, ranking
from datamodules.tables import SAMPLE_SHARES, divide
from zoo.errors import InputError, nearest
from zoo.records import Ranking, Record

STRATEGIES = (
    "Information",
    "Direct Guidance",
    "Approval and Reassurance",
    "Restatement",
    "Interpretation",
    "Self-disclosure",
    "Others",
)
SHARES = {"train": 80, "val": 10, "test": 10}


class PsyQA(ZooDataModule):
    """PsyQA as `Ranking` records over its seven strategies.

    Args:
        path: The authors' JSON file. None reads a small one that comes with the package.
        positives: `all`: one record per labelled answer, all its strategies relevant. `each`: one
            record per strategy of an answer, that one relevant.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Ranking,)

    def __init__(
        self, path: str | None = None, *, positives: Literal["all", "each"] = "all", **loader: Any
    ) -> None:
        super().__init__(**loader)
        self.path, self.positives = path, positives
        self.corpus = names_corpus(STRATEGIES)

    def load(self, split: str) -> list[Record]:
        """Read the labelled answers of a split."""
        path = SAMPLES / "psyqa.json" if self.path is None else data_path(self.path)
        shares = SAMPLE_SHARES if self.path is None else SHARES
        items = list(read_objects(path))

        def question(placed: tuple[str, dict[str, Any]]) -> str:
            return text_field(placed[1], "question", f"{path}:{placed[0]}")

        return [
            record
            for place, item in divide(items, question, split, shares, str(path))
            for record in self._answers(item, f"{path}:{place}", f"{path.name}:{place}")
        ]

    def _answers(self, item: dict[str, Any], where: str, name: str) -> Iterator[Ranking]:
        question = text_field(item, "question", where)
        query = f"{question}\n{field(item, 'description', str, where).strip()}".strip()
        for position, answer in enumerate(field(item, "answers", list, where)):
            place = f"{where}: answers[{position}]"
            if not isinstance(answer, dict):
                raise InputError(f"{place}: expected an object")
            if not field(answer, "has_label", bool, place):
                continue
            used = strategies_of(answer, place)
            parts = [used] if self.positives == "all" else [[strategy] for strategy in used]
            for relevant in parts:
                end = "" if self.positives == "all" else f":{relevant[0]}"
                grades = dict.fromkeys(relevant, 1)
                full = f"{name}:answers[{position}]{end}"
                yield ranking(place, query, self.corpus, grades, id=full)


def strategies_of(answer: dict[str, Any], where: str) -> list[str]:
    """Return the strategies that a labelled answer uses, in the order of their first use.

    Raises:
        InputError: No label, an unknown strategy, or a stretch that lies outside the answer.
    """
    length = len(field(answer, "answer_text", str, where))
    found: dict[str, None] = {}
    labels = field(answer, "labels_sequence", list, where)
    if not labels:
        raise InputError(f"{where}: has_label is true, but labels_sequence is empty")
    for position, label in enumerate(labels):
        place = f"{where}.labels_sequence[{position}]"
        if not isinstance(label, dict):
            raise InputError(f"{place}: expected an object")
        kind = field(label, "type", str, place)
        if kind not in STRATEGIES:
            raise InputError(f"{place}: unknown strategy {kind!r}; {nearest(kind, STRATEGIES)}")
        start, end = (field(label, name, int, place) for name in ("start", "end"))
        if not 0 <= start < end <= length:
            raise InputError(f"{place}: {start} to {end} is no stretch of {length} characters")
        found[kind] = None
    return list(found)
