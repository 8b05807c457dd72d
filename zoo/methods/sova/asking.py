"""Asking several dilemmas at once for an action: odds of the options, text, reasoning before.

The part of a prompt that both orders of the actions share is run once. Each question is appended to
it and removed again, so what is asked first changes nothing of what is asked later.

Shapes: R rows, D width, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from zoo.decoding.depth_decoder import DepthDecoder
from zoo.decoding.option_logits import option_logits, relevance_score
from zoo.methods.sova.encoder import DilemmaEncoder
from zoo.methods.sova.evaluation import DilemmaChoice
from zoo.methods.sova.expected import expected_action
from zoo.methods.sova.instruction import Instruction
from zoo.methods.sova.prompts import MEANINGS, OPTIONS, ORDERS
from zoo.records import NOT_TO_DO, TO_DO, Dilemma

ONLY = 0  # the one depth of the decoder


@dataclass
class Asker:
    """Rows of dilemmas that questions can be asked about.

    Attributes:
        decoder: Empty, a row for each dilemma.
        encoder: Gives the questions.
        project: Maps states `(R, D)` to logits `(R, V)`.
        head: Returns the language head's weight, `(V, D)`, and the norm before it.
        reasoned: Whether there was reasoning before the questions.
    """

    decoder: DepthDecoder
    encoder: DilemmaEncoder
    project: Callable[[Tensor], Tensor]
    head: Callable[[], tuple[Tensor, Callable[[Tensor], Tensor]]]
    reasoned: bool = field(default=False, init=False)

    def read(self, heads: Sequence[Sequence[int]]) -> list[tuple[str, bool]]:
        """Run what both orders share; return what `reason` does: an empty text for each row."""
        self._open(heads)
        return [("", False)] * len(heads)

    def reason(self, heads: Sequence[Sequence[int]], max_new_tokens: int) -> list[tuple[str, bool]]:
        """Run requests for reasoning; return what was written to each, and whether it was cut."""
        start, end = self.encoder.reasoning_start(), self.encoder.reasoning_end()
        self._open([[*head, *start] for head in heads])
        stop = self.encoder.stop_id
        ids = self.decoder.decode(ONLY, self.project, stop_id=stop, max_new_tokens=max_new_tokens)
        self.decoder.feed([end] * len(heads), ONLY)
        self.reasoned = True
        return [
            (text, len(row) == max_new_tokens)
            for text, row in zip(self._texts(ids), ids, strict=True)
        ]

    def choose(
        self,
        heads: Sequence[Sequence[int]],
        kept: Sequence[Sequence[Instruction]],
        max_reasoning_tokens: int | None,
        *,
        read_text: bool,
    ) -> list[DilemmaChoice]:
        """Return the choice of each row.

        Args:
            heads: Prompts up to where the actions are named.
            kept: The instructions in each.
            max_reasoning_tokens: Limit of the reasoning before; None for none.
            read_text: Whether text is written too.
        """
        if max_reasoning_tokens is None:
            reasoning = self.read(heads)
        else:
            reasoning = self.reason(heads, max_reasoning_tokens)
        odds = zip(*(self.odds(order) for order in ORDERS), strict=True)
        texts: list[tuple[str, str] | None] = [None] * len(heads)
        if read_text:
            texts = list(zip(*(self.write(order) for order in ORDERS), strict=True))
        rows = zip(odds, texts, kept, reasoning, strict=True)
        return [DilemmaChoice(z, text, tuple(k), *thought) for z, text, k, thought in rows]

    def odds(self, order: Sequence[str]) -> list[float]:
        """Return z of SoVA's equation (4) for each row, in nats."""
        place = self.decoder.place()
        self._ask([*self._tail(order), *self.encoder.option_start])
        weight, norm = self.head()  # after the pass, which makes sharded weights whole
        logits_R2 = option_logits(self.decoder.state(), norm, weight, self.encoder.option_ids)
        self.decoder.rewind(place)
        odds_R = relevance_score(logits_R2)
        return (odds_R if order[0] == TO_DO else -odds_R).tolist()

    def write(self, order: Sequence[str]) -> list[str]:
        """Return a few greedy tokens of each row, enough for an option."""
        place = self.decoder.place()
        self._ask(self._tail(order))
        ids = self.decoder.decode(
            ONLY,
            self.project,
            stop_id=self.encoder.stop_id,
            max_new_tokens=len(self.encoder.option_start) + 2,
            close=False,
        )
        self.decoder.rewind(place)
        return self._texts(ids)

    def _open(self, heads: Sequence[Sequence[int]]) -> None:
        """Run the beginning that all rows share once, then the rest of each."""
        shared = 0
        while all(len(row) > shared + 1 and row[shared] == heads[0][shared] for row in heads):
            shared += 1
        self.decoder.open_alike(heads[0][:shared])
        self.decoder.feed([row[shared:] for row in heads], ONLY)

    def _tail(self, order: Sequence[str]) -> list[int]:
        return self.encoder.tail(order, reasoned=self.reasoned)

    def _ask(self, ids: list[int]) -> None:
        self.decoder.feed([ids] * self.decoder.mask_BL.shape[0], ONLY)

    def _texts(self, ids: Sequence[Sequence[int]]) -> list[str]:
        written = self.encoder.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in written]


def policy_choice(policy: str, record: Dilemma, rule: str) -> DilemmaChoice:
    """Return what a policy chooses without reading anything.

    Args:
        policy: `always_do`, `always_not`, `random` or `oracle`.
        record: A dilemma.
        rule: What the oracle knows; where it expects nothing, the oracle does.
    """
    choices = {
        "always_do": TO_DO,
        "always_not": NOT_TO_DO,
        "random": random.Random(record.situation).choice((TO_DO, NOT_TO_DO)),
        "oracle": expected_action(record, rule) or TO_DO,
    }
    chosen = choices[policy]
    first, second = (OPTIONS[order.index(chosen)] for order in ORDERS)
    sure = 1.0 if chosen == TO_DO else -1.0
    return DilemmaChoice((sure, sure), (first, second))


def told(record: Dilemma, rule: str) -> list[Instruction]:
    """Return one instruction that names the expected action; none where nothing is expected."""
    expected = expected_action(record, rule)
    if expected is None:
        return []
    return [Instruction(f"You {MEANINGS[expected]}.", 100.0, "expected", ())]
