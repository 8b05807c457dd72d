"""Encoder of LaMsS: texts and answers interleaved with skepticism, answers judged in a second pass.

    text      x_1 s_1 x_2 s_2 ... x_n s_n                   x_t for t > 1 and every s_t are learned
    pass 1    Q -> a_1 s_1 ... a_n s_n                      the gold answer and its s_t are learned
    pass 2    Q, a'_1 s'_1 ... a'_m s'_m, instruction -> s  the one level s is learned

The question Q (all before the answer) may carry a level after every token too; nothing of it is
learned. a' is the answer of the model before training, right or wrong, and nothing of it is
learned. Every token is learned by one head: `NORMAL`, `SIGMA` (the skepticism of a token) or
`LEVEL` (of an answer).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from zoo.encoding import NO_HEAD, Batch, Example, join
from zoo.errors import InputError, TooLongError
from zoo.methods.lamss.doubt_labels import (
    Studied,
    balance,
    interleave,
    levels_of,
    nothing,
    quantile_edges,
    span_levels,
    study_texts,
)
from zoo.methods.lamss.label_sample import histograms
from zoo.methods.lamss.labeler import AnswerLabeler
from zoo.methods.lamss.level_tokens import letter_offsets
from zoo.methods.lamss.questions import Askable, check, gold, letters, opening, right
from zoo.prompts.base import PromptEncoder
from zoo.records import PlainText, Question, Triple

log = logging.getLogger(__name__)
NORMAL, SIGMA, LEVEL = 0, 1, 2
SAMPLE = 24  # records that a preview labels
ASSISTANT = "assistant"
INSTRUCTION = "How skeptical are you of this answer?"
Piece = tuple[Sequence[int], int, float]


@dataclass
class SkepticEncoder(PromptEncoder):
    """Encoder of texts and questions for a vocabulary with skepticism tokens.

    Attributes:
        tokenizer: A Hugging Face tokenizer that has the level tokens.
        level_ids: Their ids, s_0 first.
        labels: Labels the data; None puts level 0 everywhere, to look at the form alone.
        sample_labels: Labels a few records for `preview` where `labels` is None.
        doubt_source: Where the levels of a text come from: `ref_prob`, how likely `labels` finds
            each token, in quantiles of the split; `span_labels`, the spans of the record. Answers
            have no spans: theirs are of the first kind always, in quantiles of the gold answers
            without their stop token, which gets a level by them too.
        interleave: Put a level after every token; if not, the second pass alone has one.
        interleave_query: Put one after every token before the answer, too.
        shared_positions: A token and its level have one position.
        max_length: Window in tokens; a longer text becomes several examples.
        max_answer_tokens: Limit of an answer that the model gives, levels excluded.
    """

    records: ClassVar[tuple[type, ...]] = (PlainText, Question, Triple)

    level_ids: Sequence[int]
    labels: AnswerLabeler | None
    doubt_source: Literal["ref_prob", "span_labels"] = "ref_prob"
    interleave: bool = True
    interleave_query: bool = False
    shared_positions: bool = False
    max_answer_tokens: int = 16
    sample_labels: AnswerLabeler | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        start = self.tokenizer.bos_token_id
        self.start_id: int = self.stop_id if start is None else start
        asked = self.segment_ids(self.chat.turn("user", INSTRUCTION))
        self.instruction = [*asked, *self.ids(self.chat.open(ASSISTANT))]
        self.studied: dict[Any, Studied] = {}

    def study(self, records: Sequence[Any], split: str) -> None:
        """Label the records that will be encoded next; quantiles are those of this split.

        In `train` right and wrong answers are balanced; elsewhere each is shown once.

        Raises:
            InputError: A text or a question is empty, or spans are asked for and there is none.
            TooLongError: Questions fill the window; it holds them all.
        """
        texts = [record for record in records if isinstance(record, PlainText)]
        questions = [record for record in records if isinstance(record, Question | Triple)]
        prompts = self._prompts(questions)
        try:
            self.studied |= self._study_texts(texts)
            judged = self._study_questions(questions, prompts)
        finally:
            if self.labels is not None:
                self.labels.drop()
        self.studied |= judged
        few = balance(list(judged.values())) if split == "train" else None
        if few == 0 and judged and self.labels is not None:
            which = "wrong" if next(iter(judged.values())).level else "right"
            log.warning(
                "all %d answers of the model before training are %s: the second pass has nothing "
                "to tell apart",
                len(judged),
                which,
            )

    def __call__(self, record: PlainText | Question | Triple) -> list[Example]:
        """Return the examples of a record that has been studied."""
        if record not in self.studied:
            raise RuntimeError("study(records, split) comes before encoding a record of the split")
        known = self.studied[record]
        if isinstance(record, PlainText):
            parts = zip(known.pieces, known.levels, strict=True)
            return [join(self._graded(*part), record=record) for part in parts]
        asked = self.prompt(record)
        prompt: list[Piece] = [(asked, NO_HEAD, 0.0)]
        if self.interleave_query:
            prompt = self._graded(asked, known.query_levels, learn=False)
        first = [*prompt, *self._graded(known.pieces[0], known.levels[0])]
        shown = self._graded(known.response, known.response_levels, learn=False)
        instruction: Piece = (self.instruction, NO_HEAD, 0.0)
        level: Piece = ([self.level_ids[known.level]], LEVEL, 1.0)
        second = [*prompt, *shown, instruction, level]
        return [join(first, record=record)] + [join(second, record=record)] * known.copies

    def prompt(self, record: Askable) -> list[int]:
        """Return the ids of a question up to its answer.

        Raises:
            TooLongError: The window has no room for them and for what follows.
        """
        ids = self.segment_ids(opening(self.chat, record)) + self.ids(self.chat.open(ASSISTANT))
        per_token = 2 if self.interleave else 1
        judged = per_token * (self.max_answer_tokens + 1) + len(self.instruction) + 1
        length = (2 if self.interleave_query else 1) * len(ids)
        if length + max(per_token * len(self._gold(record)), judged) > self.max_length:
            raise TooLongError(
                f"{record.id or 'question'}: {length} tokens before an answer of up to "
                f"{self.max_answer_tokens}, which do not fit into the window "
                f"max_length={self.max_length} with it; raise max_length or shorten the sample"
            )
        return ids

    def choices(self, record: Askable) -> list[list[int]] | None:
        """Return the ids of each letter; None for an open question."""
        listed = letters(record)
        return None if listed is None else [self.ids(name) for name in listed]

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of an answer's normal tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def collate(self, examples: Sequence[Example], normalizers: dict[int, float]) -> Batch:
        """Join examples into a batch."""
        batch = super().collate(examples, normalizers)
        if self.shared_positions:
            levels = set(self.level_ids)
            rows = [
                torch.tensor([t not in levels for t in example.input_ids]).cumsum(0) - 1
                for example in examples
            ]
            stack = torch.nn.utils.rnn.pad_sequence
            batch.position_ids = torch.cat(rows)[None] if self.packed else stack(rows, True)
        return batch

    def preview(self, example: Example) -> list[str]:
        """Return lines that show an example, or both passes of a question, with masks in colour.

        Labels that were left out are made for a few records, and counted.
        """
        lines = [] if self.labels else self._label_sample(example.record)
        text = isinstance(example.record, PlainText)
        for shown in [example] if text else self(example.record)[:2]:
            lines += super().preview(shown)
        return lines

    def _label_sample(self, first: Any) -> list[str]:
        """Label a record and some others; return lines that say how often each level occurs."""
        records = list(dict.fromkeys([first, *self.studied]))[:SAMPLE]
        self.labels = self.sample_labels
        try:
            if self.labels is not None:
                self.labels.check_size()
            self.study(records, "val")
        except (InputError, OSError) as error:
            return [f"labels      none yet, the levels below are all s_0: {error}"]
        finally:
            self.labels = None
        found = [self.studied[record] for record in records]
        by_text = [isinstance(record, PlainText) for record in records]
        texts = [studied for studied, text in zip(found, by_text, strict=True) if text]
        questions = [studied for studied, text in zip(found, by_text, strict=True) if not text]
        by = self.sample_labels.backbone.name if self.sample_labels else "nobody"
        title = f"labels      of {len(records)} records by {by}, in quantiles of these alone"
        return [title, *histograms(texts, questions, len(self.level_ids), self.interleave)]

    def _study_texts(self, texts: Sequence[PlainText]) -> dict[PlainText, Studied]:
        size = self.max_length // 2 if self.interleave else self.max_length
        num_levels = len(self.level_ids)

        def by_chance(pieces: list[list[int]]) -> list[list[int]]:
            if self.labels is None or not self.interleave:
                return nothing(pieces)
            doubts = self.labels.doubts([([self.start_id], piece) for piece in pieces])
            return levels_of(doubts, quantile_edges(doubts, num_levels))

        if self.doubt_source == "ref_prob":
            return study_texts(texts, [self.ids(t.text) for t in texts], size, by_chance)
        if texts and not any(record.doubt for record in texts):
            raise InputError("model.doubt_source: span_labels, but no text has a doubted span")
        rows = [letter_offsets(self.tokenizer, record.text) for record in texts]
        levels = [span_levels(t, row, num_levels) for t, row in zip(texts, rows, strict=True)]
        parts = [row[i : i + size] for row in levels for i in range(0, len(row), size)]
        graded = [part for part in parts if len(part) > 1]
        return study_texts(texts, [self.ids(t.text) for t in texts], size, lambda _: graded)

    def _prompts(self, questions: Sequence[Askable]) -> list[list[int]]:
        """Return the prompt of each question; those that do not fit are named together."""
        prompts, too_long = [], []
        for record in questions:
            check(record)
            try:
                prompts.append(self.prompt(record))
            except TooLongError as error:
                too_long.append((record, error))
        if too_long:
            raise TooLongError(str(too_long[0][1]), [record for record, _ in too_long])
        return prompts

    def _study_questions(
        self, questions: Sequence[Askable], prompts: Sequence[list[int]]
    ) -> dict[Askable, Studied]:
        answers = [self._gold(record) for record in questions]
        if self.labels is None:
            own = [list(answer) for answer in answers]
        else:
            choices = [self.choices(record) for record in questions]
            own = [[*ids, self.stop_id] for ids in self.labels.answers(prompts, choices)]
        levels, own_levels = nothing(answers), nothing(own)
        asked = nothing(prompts) if self.interleave_query else [[] for _ in prompts]
        if self.labels is not None and self.interleave:
            doubts = self.labels.doubts(list(zip(prompts, answers, strict=True)))
            said = [row[:-1] for row in doubts]  # the end is one token for all answers
            edges = quantile_edges(said, len(self.level_ids))
            levels = levels_of(doubts, edges)
            own_levels = levels_of(self.labels.doubts(list(zip(prompts, own, strict=True))), edges)
            if self.interleave_query:
                doubts = self.labels.doubts([([self.start_id], prompt) for prompt in prompts])
                asked = levels_of(doubts, quantile_edges(doubts, len(self.level_ids)))
        worst = len(self.level_ids) - 1
        studied = {}
        for i, record in enumerate(questions):
            level = 0 if right(record, self.text(own[i])) else worst
            studied[record] = Studied(
                [answers[i]], [levels[i]], own[i], own_levels[i], level, 1, asked[i]
            )
        return studied

    def _gold(self, record: Askable) -> list[int]:
        """Return the ids of the gold answer, closed with the stop token."""
        return [*self.ids(gold(record)), self.stop_id]

    def _graded(
        self, ids: Sequence[int], levels: Sequence[int], *, learn: bool = True
    ) -> list[Piece]:
        """Return tokens with their levels, or alone if there is no interleaving."""
        normal, sigma = (NORMAL, SIGMA) if learn else (NO_HEAD, NO_HEAD)
        if not self.interleave:
            return [(ids, normal, float(learn))]
        stream = interleave(ids, [self.level_ids[level] for level in levels])
        return [([token], (normal, sigma)[i % 2], float(learn)) for i, token in enumerate(stream)]
