"""Encoder of ranked records: (query, document) pairs, each a prompt in two halves and a label.

A prompt is cut once, at a fixed place between two blocks that are tokenised separately: what comes
before (`head`) does not depend on what comes after (`tail`), so it can be run once and kept.

    document first   head = opening, document             tail = query, question, answer's header
    query first      head = opening, query                tail = document, question, ...
"""

from __future__ import annotations

import logging
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

from zoo.encoding import NO_HEAD, Batch, Example, extended, join
from zoo.errors import InputError, nearest
from zoo.methods.lahore.prompts import SYSTEM, TEMPLATES, Order
from zoo.prompts.base import PromptEncoder
from zoo.prompts.option_tokens import option_ids
from zoo.ranking.pair_scoring import Store
from zoo.records import Document, Ranking

log = logging.getLogger(__name__)
ANSWER, REJECTED = 0, 1  # heads: the right option; the other one, for preference learning
PAIR = 2  # the "head" that counts pairs
HALVES_BYTES = 256 * 2**20  # of tokenised texts that are kept
ID_BYTES, CHARACTER_BYTES = 40, 4  # at most: an id in a tuple, and a character of a text


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a document as one prompt, with its label.

    Attributes:
        head: Token ids before the place where the prompt is cut.
        tail: Token ids after it.
        relevant: The label.
        answers: Sequences that a training step runs: the right answer, or both.
        answer_tokens: Tokens of an answer, end-of-turn included.
        key: Name of the pair, unique in its data.
        record: The record, on its first pair only.
    """

    head: tuple[int, ...]
    tail: tuple[int, ...]
    relevant: bool
    answers: int
    answer_tokens: int
    key: str
    record: Ranking | None

    def __len__(self) -> int:
        """Return the number of tokens that a training step runs."""
        return self.answers * (len(self.head) + len(self.tail) + self.answer_tokens)

    def head_weights(self) -> dict[int, float]:
        """Return the supervised weight of each answer's head, and one pair."""
        heads = (ANSWER, REJECTED)[: self.answers]
        return {**dict.fromkeys(heads, float(self.answer_tokens)), PAIR: 1.0}


@dataclass(slots=True)
class RelevanceBatch(Batch):
    """Sequences of pairs: first those with the right answers, then those with the wrong ones.

    Attributes:
        keys: Name of each pair.
    """

    keys: list[str] = field(default_factory=list)


class Grid(NamedTuple):
    """Pairs of halves, in the order of records and their pools; see `zoo.ranking.pair_scoring`."""

    heads: dict[Hashable, tuple[int, ...]]
    tails: list[tuple[int, ...]]
    pairs: list[tuple[Hashable, int]]

    def places(self) -> tuple[list[int], list[int]]:
        """Return where the tail and the head of each pair stand in `tails` and `heads`."""
        known = {key: i for i, key in enumerate(self.heads)}
        return [tail for _, tail in self.pairs], [known[key] for key, _ in self.pairs]


@dataclass
class RelevanceEncoder(PromptEncoder):
    """Encoder of ranked records: one pair per document of the pool ("1:all").

    Attributes:
        template: Which wording.
        order: Which text comes first.
        relevance: Ask the relevance question I_r.
        choice: Tell the binary choice I_bc.
        labels: How "true" and "false" are written.
        system: System line; empty for none.
        document_tokens: Slot of a document; a longer one loses its end.
        max_length: Window in tokens; a longer query loses its beginning (a conversation's oldest
            turns) so that every document fits beside it.
        negatives: Documents per query that are not relevant, drawn anew for each query by its id;
            None for all of the pool.
        preference: Also encode the wrong option of each pair.
    """

    records: ClassVar[tuple[type, ...]] = (Ranking,)
    pair_type: ClassVar[type[Pair]] = Pair

    template: str = "paper"
    order: Order = "document_first"
    relevance: bool = True
    choice: bool = True
    labels: Sequence[str] = ("A", "B")
    system: str = SYSTEM
    document_tokens: int = 512
    negatives: int | None = None
    preference: bool = False

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise InputError(
                f"model.template: no {self.template!r}; {nearest(self.template, TEMPLATES)}"
            )
        if len(self.labels) != 2:
            raise InputError(f"model.labels: {self.labels} are not two, for true and for false")
        super().__post_init__()
        self.words = TEMPLATES[self.template]
        header = self.chat.close("user") + self.chat.open("assistant")
        self.option_ids = option_ids(self.tokenizer, self.labels, header)
        self.end_ids = self.ids(self.chat.close("assistant"))
        self._cut: dict[str, set[int]] = {"document": set(), "query": set()}  # hashes
        self._halves: Store[tuple[int, ...]] = Store(HALVES_BYTES)
        opening = self.chat.open("user", first=not self.system)
        if self.system:
            opening = self.system_turn(self.system) + self.chat.open("user")
        asked = [self.words.relevance] if self.relevance else []
        true, false = self.labels
        choice = [self.words.choice.format(true=true, false=false)] if self.choice else []
        between, question = (asked, choice) if self.words.asks_first else ([], [*asked, *choice])
        first, second = self.words.document, self.words.query
        if self.order == "query_first":
            first, second = second, first
        # Every piece is tokenised by itself; the texts go between them.
        self.opening = self.ids(opening + first)
        self.middle = self.ids("\n".join(["", *between, second]))
        self.closing = self.ids((f"\n{' '.join(question)}" if question else "") + header)
        fixed = len(self.opening) + len(self.middle) + len(self.closing) + 1 + len(self.end_ids)
        self.query_tokens = self.max_length - self.document_tokens - fixed
        if self.query_tokens < 1:
            raise InputError(
                f"model.max_length: {self.max_length} leaves no room for a query beside "
                f"model.document_tokens={self.document_tokens} and {fixed} tokens of prompt"
            )

    def __call__(self, record: Ranking) -> list[Pair]:
        """Return the pairs of a record in the pool's order: all relevant documents, and negatives.

        Raises:
            InputError: A document is empty.
        """
        grades, pool = dict(record.relevant), record.pool
        right = [grades.get(name, 0) > 0 for name in pool]
        chosen = [i for i, relevant in enumerate(right) if not relevant]
        if self.negatives is not None and self.negatives < len(chosen):
            chosen = random.Random(record.id).sample(chosen, self.negatives)
        chosen = sorted({*chosen, *(i for i, relevant in enumerate(right) if relevant)})
        return [
            self.pair_type(
                *self.halves(record.query, record.corpus.documents[pool[i]]),
                relevant=right[i],
                answers=2 if self.preference else 1,
                answer_tokens=1 + len(self.end_ids),
                key=f"{record.id}\n{pool[i]}",
                record=record if i == chosen[0] else None,
            )
            for i in chosen
        ]

    def halves(self, query: str, document: Document) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the prompt of a pair, before and after its cut.

        Raises:
            InputError: The document is empty.
        """
        if not document.content:
            raise InputError(f"document {document.id!r} is empty")
        first, second = ("document", document.content), ("query", query)
        if self.order == "query_first":
            first, second = second, first
        return self.half("head", *first), self.half("tail", *second)

    def half(self, side: Literal["head", "tail"], kind: str, text: str) -> tuple[int, ...]:
        """Return one side of a prompt; `kind` says what the text is, `document` or `query`."""
        key = (side, kind, text)
        ids = self._halves.find(key)
        if ids is None:
            before, after = (self.opening, []) if side == "head" else (self.middle, self.closing)
            ids = (*before, *self._text_ids(kind, text), *after)
            self._halves.add(key, ids, ID_BYTES * len(ids) + CHARACTER_BYTES * len(text))
        return ids

    def grid(self, records: Sequence[Ranking]) -> Grid:
        """Return the prompts of all documents of each record's pool, halves that are equal once."""
        heads: dict[Hashable, tuple[int, ...]] = {}
        tails: dict[tuple[int, ...], int] = {}
        pairs: list[tuple[Hashable, int]] = []
        for record in records:
            for name in record.pool:
                head, tail = self.halves(record.query, record.corpus.documents[name])
                heads[head] = head
                pairs.append((head, tails.setdefault(tail, len(tails))))
        return Grid(heads, list(tails), pairs)

    def example(self, pair: Pair, *, right: bool = True) -> Example:
        """Return a pair's prompt with an answer, which is learned with end-of-turn by a head."""
        answer = [self.option_ids[0 if pair.relevant is right else 1], *self.end_ids]
        prompt = [(pair.head, NO_HEAD, 0.0), (pair.tail, NO_HEAD, 0.0)]
        return join([*prompt, (answer, ANSWER if right else REJECTED, 1.0)], record=pair.record)

    def collate(self, pairs: Sequence[Pair], normalizers: dict[int, float]) -> RelevanceBatch:
        """Join pairs into a batch: all right answers, then all wrong ones if there are any."""
        kinds = (True, False)[: pairs[0].answers]
        examples = [self.example(pair, right=kind) for kind in kinds for pair in pairs]
        batch = super().collate(examples, normalizers)
        batch.records = [pair.record for pair in pairs]
        return extended(RelevanceBatch, batch, keys=[pair.key for pair in pairs])

    @property
    def cut(self) -> dict[str, int]:
        """Number of different texts of each kind that were longer than their slots."""
        return {kind: len(texts) for kind, texts in self._cut.items()}

    def report_cut(self) -> None:
        """Say how many texts were longer than their slots."""
        room = {"document": self.document_tokens, "query": self.query_tokens}
        for kind, side in (("document", "end"), ("query", "beginning")):
            if self.cut[kind]:
                log.warning(
                    "%d texts are longer than the slot of a %s, %d tokens, and lose their %s",
                    *(self.cut[kind], kind, room[kind], side),
                )

    def preview(self, pair: Pair) -> list[str]:
        """Return lines that show a pair's right answer with its masks in colour."""
        return super().preview(self.example(pair))

    def _text_ids(self, kind: str, text: str) -> list[int]:
        """Return a text's ids, cut to its slot: a document's end, a query's beginning."""
        words = self.words.document if kind == "document" else self.words.query
        ids = self.ids(text if words.endswith("\n") else f" {text}")
        room = self.document_tokens if kind == "document" else self.query_tokens
        if len(ids) > room:
            self._cut[kind].add(hash(text))  # it may be tokenised again
        return ids[:room] if kind == "document" else ids[-room:]
