"""ESConv as a ranking task: which support strategy fits the supporter's next turn.

Every supporter turn with a seeker turn somewhere before it is a query over the eight strategies;
the relevant one is its annotated strategy. The query holds the turns before it, a line each, oldest
first. A second supporter turn in a row is a query of its own, whose last line is the supporter's.

Known of the paper's data: the query is the history with the current utterance, the document the
name of a strategy. Not known: which turns were kept, and how speakers are written; chosen here.

Files and splits are those of `datamodules/esconv.py`; the split is by dialogue.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.esconv import ESConv
from datamodules.judged_queries import names_corpus, ranking
from zoo.errors import check_counts
from zoo.records import SEEKER, SUPPORTER, Corpus, Dialogue, Ranking, Record

STRATEGIES = {
    "Question": "ask about the situation so that the person can tell more of it",
    "Restatement or Paraphrasing": "say in other words what the person has told, to check it",
    "Reflection of feelings": "name the feeling that shows in what the person has told",
    "Self-disclosure": "tell of something similar that one has been through oneself",
    "Affirmation and Reassurance": "point to what the person does well and give them hope",
    "Providing Suggestions": "propose something that the person could try",
    "Information": "give a fact, an explanation or a source that helps",
    "Others": "greet, thank, say goodbye, or keep the conversation going",
}
"""The eight strategies, with definitions of our own."""


class ESConvStrategies(ZooDataModule):
    """ESConv as `Ranking` records, one per supporter turn, over the eight strategies.

    Args:
        path: See `ESConv`. None reads five small dialogues that come with the package, the same
            for every split.
        definitions: Append a definition to each strategy's name, in our own words; the paper ranks
            names alone.
        max_turns: Keep only the last so many turns in the query; None keeps all.
        split_seed: Seed of the split of `ESConv.json`; 13 is the authors', as in `ESConv`.
        **loader: Batches, limits and seed; see `ZooDataModule`.
    """

    record_types = (Ranking,)

    def __init__(
        self,
        path: str | None = None,
        *,
        definitions: bool = False,
        max_turns: int | None = None,
        split_seed: int = 13,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        check_counts("data", {"max_turns": max_turns})
        self.dialogues = ESConv(path, split_seed=split_seed)
        self.max_turns = max_turns
        self.corpus = names_corpus(list(STRATEGIES), STRATEGIES if definitions else None)

    def load(self, split: str) -> list[Record]:
        """Read the supporter turns of a split."""
        return [
            record
            for dialogue in self.dialogues.records(split)
            if isinstance(dialogue, Dialogue)
            for record in strategy_queries(dialogue, self.corpus, self.max_turns)
        ]


def strategy_queries(
    dialogue: Dialogue, corpus: Corpus, max_turns: int | None = None
) -> Iterator[Ranking]:
    """Yield a record for each supporter turn after the seeker's first; `id` names the turn."""
    lines: list[str] = []
    seeker_spoke = False
    for position, turn in enumerate(dialogue.turns):
        if turn.speaker == SUPPORTER and seeker_spoke:
            where = f"{dialogue.id}: dialog[{position}]"
            query = "\n".join(lines[-max_turns:] if max_turns else lines)
            name = f"{dialogue.id}:dialog[{position}]"
            yield ranking(where, query, corpus, {turn.strategy: 1}, id=name)
        lines.append(f"{turn.speaker}: {turn.text}")
        seeker_spoke = seeker_spoke or turn.speaker == SEEKER
