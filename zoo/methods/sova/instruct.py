"""Instructions for a situation by scored reports (`map_score`), not by similarity alone.

    (R1)  (i, s) = map(r, c) for every report r of the theory and the situation c: an instruction
          and its score from 0 to 100
    (R2)  kept = those with s > tau, by falling score, then by report, the first N

`likelihood`: s = sum_g P(g) value(g), the expected value of fixed grades g under the model's
probabilities of their tokens. A small model that is asked for a number copies the one that it has
just read; this score needs no number. i is that finding of the report, among those that advise,
which is closest to c (`fits`; the first one where no closeness is given); the report with the best
score chooses first, and no two reports give the same principle.

`model`: the model writes i and s as JSON; where no instruction can be read from its words, i and s
are those of `likelihood`, and one with a score that is none is dropped. Both are counted. A
question, or a text of more than `MAX_INSTRUCTION` tokens, is no instruction. With `prefilter: k`
only the k reports closest to c by a sentence encoder are mapped.

Of a situation that does not fit the window with a report, the first lines are left out: those of a
conversation that were said long ago.

Shapes: R reports, S situations, K grades, D width of the encoder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from zoo.decoding.batching import BUDGET, chunks
from zoo.decoding.option_logits import option_logits
from zoo.decoding.prefix_cache import Prefixes, last_states, prefill
from zoo.decoding.shared_context import SharedContext
from zoo.errors import InputError
from zoo.judges.judge import JudgeError
from zoo.markup import token_ids
from zoo.methods.sova.instruction import Fit, Instruction, advice, keep
from zoo.methods.sova.json_answer import ACTION_NAME
from zoo.methods.sova.map_prompts import GRADES, GRADING, WRITING, after, before
from zoo.methods.sova.reports import Report
from zoo.methods.sova.written_instruction import MAX_INSTRUCTION, ScoreError, read_instruction
from zoo.prompts.chat_format import chat_format
from zoo.prompts.option_tokens import option_ids

How = Literal["likelihood", "model"]
Pair = tuple[int, int]
"""Places of a report and of a situation."""

TAU, TOP = 60.0, 100
MAX_TOKENS = 160  # of the JSON: an instruction, its score and the names
KEPT_BYTES = 2**30  # of prefixes between calls
ROW_TOKENS = 16384  # of reports that write at once


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The kept instructions of each situation, best first, and what became of the others."""

    kept: list[list[Instruction]]
    counts: Counter[str]


class MapScore:
    """Maps reports to instructions for situations with a language model.

    Keys and values of reports are kept between calls: make a new one when the weights change.

    Args:
        lm: Causal language model, in evaluation mode.
        tokenizer: Its tokenizer.
        reports: With different ids; of one theory, or of several to be used together.
        how: `likelihood` or `model`.
        tau: Keep what scores above it; 100 keeps nothing.
        top: Keep at most so many.
        window: Limit in tokens of a prompt with its answer.

    Raises:
        InputError: There are no reports, or a grade is not one token of this tokenizer.
    """

    def __init__(
        self,
        lm: Any,
        tokenizer: Any,
        reports: Sequence[Report],
        *,
        how: How = "likelihood",
        tau: float = TAU,
        top: int = TOP,
        window: int = 4096,
    ) -> None:
        if not reports:
            raise InputError("reports: there are none of this theory; build the graph with it")
        self.lm, self.tokenizer, self.how = lm, tokenizer, how
        self.reports = sorted(reports, key=lambda report: report.id)
        self.tau, self.top, self.window = tau, top, window
        self.chat = chat_format(tokenizer)
        self.grade_ids = option_ids(
            tokenizer, GRADES, self.chat.open("assistant"), key="reports: grades"
        )
        self.befores = [token_ids(tokenizer, before(self.chat, r)) for r in self.reports]
        self.prefixes: dict[int, Prefixes] = {}

    def __call__(
        self,
        situations: Sequence[str],
        near: Sequence[Sequence[int]] | None = None,
        fits: Sequence[Fit] | None = None,
    ) -> Retrieved:
        """Return the kept instructions of each situation.

        Args:
            situations: Texts; nothing else of a dilemma is seen.
            near: For each situation the places of the reports to map (`prefilter`); None for all.
            fits: For each situation how close the principles are to it; None for no choice among
                the findings of a report.

        Raises:
            InputError: Not even the last line of a situation fits the window.
        """
        situations = [self._fitting(situation) for situation in situations]
        everything = range(len(self.reports))
        pairs = [(r, s) for s in range(len(situations)) for r in (near[s] if near else everything)]
        pairs = sorted(set(pairs))
        counts: Counter[str] = Counter()
        mapped: list[tuple[int, Instruction]] = []
        unread = pairs
        if self.how == "model":
            mapped, unread = self._by_model(pairs, situations, counts)
        mapped += self._by_likelihood(unread, situations, fits or [{}] * len(situations), counts)
        found: list[list[Instruction]] = [[] for _ in situations]
        for s, instruction in mapped:
            if ACTION_NAME.search(instruction.text):
                counts["names an action"] += 1
            else:
                found[s].append(instruction)
        kept = [keep(items, self.tau, self.top) for items in found]
        counts["kept"] += sum(map(len, kept))
        counts["not kept"] += sum(map(len, found)) - sum(map(len, kept))
        return Retrieved(kept, counts)

    def _by_likelihood(
        self,
        pairs: Sequence[Pair],
        situations: Sequence[str],
        fits: Sequence[Fit],
        counts: Counter[str],
    ) -> list[tuple[int, Instruction]]:
        scored: dict[int, list[tuple[Report, float]]] = {}
        for (r, s), score in zip(pairs, self.scores(pairs, situations).tolist(), strict=True):
            scored.setdefault(s, []).append((self.reports[r], score))
        return [
            (s, instruction)
            for s, reports in scored.items()
            for instruction in advice(reports, fits[s], counts)
        ]

    @torch.no_grad()
    def scores(self, pairs: Sequence[Pair], situations: Sequence[str]) -> Tensor:
        """Return the score of each pair, 0 to 100: prefixes shared, pairs in batches."""
        suffixes = [token_ids(self.tokenizer, after(self.chat, s, GRADING)) for s in situations]
        lengths = [len(suffixes[s]) for _, s in pairs]
        values_K = torch.linspace(0, 100, len(GRADES))
        found = torch.zeros(len(pairs))
        groups = chunks(range(len(pairs)), lengths, BUDGET, padded=False)
        bar = tqdm(total=len(pairs), desc="reports scored", leave=False, delay=2)
        for group in groups:
            used = sorted({pairs[i][0] for i in group})
            prefixes = Prefixes.join([self._prefix(r) for r in used])
            owners = [used.index(pairs[i][0]) for i in group]
            states = last_states(self.lm, prefixes, owners, [suffixes[pairs[i][1]] for i in group])
            logits_RK = option_logits(
                states, self.lm.model.norm, self.lm.lm_head.weight, self.grade_ids
            )
            found[list(group)] = (logits_RK.float().softmax(1).cpu() * values_K).sum(1)
            bar.update(len(group))
        bar.close()
        return found

    def _prefix(self, place: int) -> Prefixes:
        """Return the keys and values of a report's prompt, kept while there is room."""
        if place not in self.prefixes:
            made = prefill(self.lm, [self.befores[place]])
            if sum(p.num_bytes for p in self.prefixes.values()) + made.num_bytes > KEPT_BYTES:
                self.prefixes.clear()
            self.prefixes[place] = made
        return self.prefixes[place]

    def _by_model(
        self, pairs: Sequence[Pair], situations: Sequence[str], counts: Counter[str]
    ) -> tuple[list[tuple[int, Instruction]], list[Pair]]:
        """Ask the reports of a group in one batch, in each round about one more situation each.

        Returns:
            Place of a situation and an instruction for it; the pairs without a readable answer.
        """
        waiting: dict[int, list[int]] = {}
        for r, s in pairs:
            waiting.setdefault(r, []).append(s)
        mapped: list[tuple[int, Instruction]] = []
        unread: list[Pair] = []
        bar = tqdm(total=len(pairs), desc="reports", leave=False, delay=2)
        lengths = [len(self.befores[r]) for r in waiting]
        for group in chunks(list(waiting), lengths, ROW_TOKENS):
            context = self._context(group)
            for places in zip_longest(*(waiting[r] for r in group)):
                asked = [None if s is None else (r, s) for r, s in zip(group, places, strict=True)]
                for pair, words in zip(asked, self._ask(context, asked, situations), strict=True):
                    if pair is None:
                        continue
                    r, s = pair
                    try:
                        mapped.append((s, self._read(words, self.reports[r], counts)))
                    except JudgeError as error:
                        counts[str(error).partition(":")[0]] += 1
                        unread += [] if isinstance(error, ScoreError) else [pair]
                bar.update(len(asked) - asked.count(None))
        bar.close()
        counts["best finding instead"] += len(unread)
        return mapped, unread

    def _ask(
        self, context: SharedContext, pairs: Sequence[Pair | None], situations: Sequence[str]
    ) -> list[str]:
        """Return what each report's row says about its situation; a row of None is not asked."""
        questions = [
            None if p is None else after(self.chat, situations[p[1]], WRITING) for p in pairs
        ]
        return context.ask(questions, max_new_tokens=MAX_TOKENS)

    def _context(self, group: Sequence[int]) -> SharedContext:
        return SharedContext(
            self.lm,
            self.tokenizer,
            [before(self.chat, self.reports[r]) for r in group],
            stop=self.chat.end,
            window=self.window,
            room=0,  # `_fitting` has left some to the questions
        )

    def _read(self, words: str, report: Report, counts: Counter[str]) -> Instruction:
        found = read_instruction(words, report, counts)
        if len(token_ids(self.tokenizer, found.text)) > MAX_INSTRUCTION:
            raise JudgeError(f"more than {MAX_INSTRUCTION} tokens in an instruction", words)
        return found

    def _fitting(self, situation: str) -> str:
        """Return as many of the last lines of a situation as fit with the longest report."""
        question, answer = (WRITING, MAX_TOKENS) if self.how == "model" else (GRADING, 1)
        room = self.window - max(map(len, self.befores)) - answer
        lines = situation.splitlines()
        while True:
            text = "\n".join(lines)
            size = len(token_ids(self.tokenizer, after(self.chat, text, question)))
            if size <= room:
                return text
            if len(lines) < 2:
                raise InputError(
                    f"situation {text[:40]!r}: {size} tokens with the question, beside the longest "
                    f"report there is room for {room} in the window max_length={self.window}; "
                    f"raise max_length or shorten the text"
                )
            del lines[0]


def closest(reports_RD: Tensor, situations_SD: Tensor, k: int) -> list[list[int]]:
    """Return the places of the k reports closest to each situation, by cosine, ties by place.

    Args:
        reports_RD: Vectors of length 1, in the order of the reports' ids.
        situations_SD: Vectors of length 1 of the same encoder.
        k: How many; all of them where there are fewer.
    """
    order = torch.sort(situations_SD @ reports_RD.T, dim=1, descending=True, stable=True).indices
    return [sorted(row[:k]) for row in order.tolist()]
