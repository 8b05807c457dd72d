"""Rows that are told things for good and asked questions that leave no trace.

A row is a text that grows by pieces. `ask` runs what is new since the last question, then the
question and the answer, and goes back to where the text ended, so keys and values of the text are
computed once, however many questions and turns follow. The rows of a batch decode together. Pieces
are tokenised alone, so the ids are those of the whole prompt written at once.

Where a row outgrows its window, its oldest pieces are left out (never its head). Positions then
change, so that row is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.decoding.constrained import only
from zoo.decoding.depth_decoder import DepthDecoder, Place
from zoo.nn.blocks import num_blocks
from zoo.prompts.truncation import first_kept

ONLY = 0  # the one depth
UNREAD = -1  # instead of the first piece of a row: the row has to be run from its beginning


@dataclass(frozen=True, slots=True)
class Mark:
    """Where all rows were: see `Branching.mark`."""

    lengths: list[int]
    starts: list[int]
    told: list[int]
    decoder: DepthDecoder
    place: Place


class Branching:
    """A batch of growing texts.

    Args:
        lm: Causal language model, in evaluation mode.
        tokenizer: Its tokenizer.
        heads: What opens each row, not empty; always kept.
        stop: Text of the token that ends an answer.
        window: Tokens that a row, a question and its answer may take.
        room: Tokens of it to keep free for the longest question with its answer.
        spare: Share to free when a row outgrows its window (`truncation.first_kept`).
        everyone_done: Says whether all processes have finished, given whether this one has.
    """

    def __init__(
        self,
        lm: Any,
        tokenizer: Any,
        heads: Sequence[str],
        *,
        stop: str,
        window: int,
        room: int,
        spare: float = 0.0,
        everyone_done: Callable[[bool], bool] = bool,
    ) -> None:
        self.lm, self.tokenizer, self.everyone_done = lm, tokenizer, everyone_done
        self.stop_id: int = tokenizer.convert_tokens_to_ids(stop)
        self.heads = [self.ids(head) for head in heads]
        self.budget, self.spare = window - room, spare
        self.pieces: list[list[list[int]]] = [[] for _ in heads]
        self.starts, self.told = [UNREAD] * len(heads), [0] * len(heads)
        self.decoder: DepthDecoder | None = None

    @property
    def positions(self) -> int:
        """Tokens that are kept of all rows."""
        return 0 if self.decoder is None else int(self.decoder.mask_BL.sum())

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text, special tokens included, none added."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def tell(self, row: int, text: str) -> None:
        """Append a piece to a row; an empty one changes nothing."""
        if text:
            self.pieces[row].append(self.ids(text))

    def mark(self) -> Mark:
        """Return where all rows are, after running what they were told."""
        decoder = self._run()
        lengths = [len(pieces) for pieces in self.pieces]
        return Mark(lengths, list(self.starts), list(self.told), decoder, decoder.place())

    def back(self, mark: Mark) -> None:
        """Forget what was told after a mark."""
        for pieces, length in zip(self.pieces, mark.lengths, strict=True):
            del pieces[length:]
        if self.decoder is not mark.decoder:
            self.decoder = None
            return
        self.decoder.rewind(mark.place)
        pairs = zip(self.starts, mark.starts, strict=True)
        self.starts = [now if now == then else UNREAD for now, then in pairs]
        self.told = list(mark.told)

    @torch.no_grad()
    def ask(
        self,
        questions: Sequence[str | None],
        *,
        max_new_tokens: int,
        choices: Sequence[str] | None = None,
        temperature: float = 0.0,
    ) -> list[str]:
        """Return the answer of each row to its question; nothing of it stays.

        Args:
            questions: One for each row; a row of None is not asked, and its answer is empty.
            max_new_tokens: Limit of an answer.
            choices: Texts of which an answer has to be one; None for any.
            temperature: 0 is greedy.

        Raises:
            InputError: A row does not fit its window.
        """
        decoder = self._run()
        place = decoder.place()
        self._feed(decoder, [[] if text is None else self.ids(text) for text in questions])
        listed = None if choices is None else [self.ids(choice) for choice in choices]
        rows = [[] if text is None else listed for text in questions]
        free = all(row is None for row in rows)
        found = decoder.decode(
            ONLY,
            self._project,
            stop_id=self.stop_id,
            max_new_tokens=max_new_tokens if listed is None else 1 + max(map(len, listed)),
            temperature=temperature,
            close=False,
            allowed=None if free else only(rows, self.stop_id),
        )
        decoder.rewind(place)
        return [
            text.strip() for text in self.tokenizer.batch_decode(found, skip_special_tokens=True)
        ]

    @torch.no_grad()
    def weigh(self, questions: Sequence[str | None], choices: Sequence[str]) -> Tensor:
        """Return the mean log-probability of each choice as the answer, `(R, K)`, in nats.

        The mean is over its tokens and the token that ends it.

        Args:
            questions: As for `ask`; what a row of None gets means nothing.
            choices: Texts of the K choices.

        Raises:
            InputError: A row does not fit its window.
        """
        decoder = self._run()
        start = decoder.place()
        self._feed(decoder, [[] if text is None else self.ids(text) for text in questions])
        asked = decoder.place()
        columns = []
        for choice in choices:
            ids = [*self.ids(choice), self.stop_id]
            columns.append(self._score(decoder, [ids] * len(questions)) / len(ids))
            decoder.rewind(asked)
        decoder.rewind(start)
        return torch.stack(columns, 1)

    @torch.no_grad()
    def likelihood(
        self, questions: Sequence[str | None], begun: Sequence[str], answers: Sequence[str]
    ) -> list[tuple[float, int]]:
        """Return the negative log-likelihood of each row's answer in nats, and its tokens.

        Args:
            questions: As for `ask`.
            begun: How the answer of a row has begun; not counted. A space that ends it is read with
                what follows, as tokenizers split text.
            answers: How it goes on; an empty one counts nothing.

        Raises:
            InputError: A row does not fit its window.
        """
        if self.everyone_done(not any(answers)):
            return [(0.0, 0)] * len(answers)
        decoder = self._run()
        start = decoder.place()
        asked = zip(questions, begun, strict=True)
        self._feed(decoder, [self.ids(f"{text or ''}{words.rstrip(' ')}") for text, words in asked])
        pairs = zip(begun, answers, strict=True)
        rows = [self.ids(" " * words.endswith(" ") + text) if text else [] for words, text in pairs]
        logps = self._score(decoder, [row or [self.stop_id] for row in rows]).tolist()
        decoder.rewind(start)
        found = zip(logps, rows, strict=True)
        return [(-logp, len(row)) if row else (0.0, 0) for logp, row in found]

    def _score(self, decoder: DepthDecoder, rows: Sequence[list[int]]) -> Tensor:
        """Append tokens; return the sum of their log-probabilities in each row, `(R,)`, in nats."""
        logits_RTV = self._project(decoder.follow(rows, ONLY))
        found = []
        for logits_TV, ids in zip(logits_RTV, rows, strict=True):
            logp_TV = logits_TV[: len(ids)].float().log_softmax(-1)
            found.append(logp_TV.gather(1, torch.tensor(ids, device=logp_TV.device)[:, None]).sum())
        return torch.stack(found)

    def _project(self, states: Tensor) -> Tensor:
        return self.lm.lm_head(self.lm.model.norm(states))

    def _run(self) -> DepthDecoder:
        """Run what is new of every row; all of a row that has to leave pieces out."""
        starts = [
            first_kept(len(head), [len(piece) for piece in pieces], self.budget, self.spare)
            for head, pieces in zip(self.heads, self.pieces, strict=True)
        ]
        again = [now != before for now, before in zip(starts, self.starts, strict=True)]
        if self.decoder is None or all(again) or self._sparse():
            self.decoder, again = self._new_decoder(), [True] * len(again)
        begun: list[list[int]] = []
        added: list[list[int]] = []
        for r, (head, pieces) in enumerate(zip(self.heads, self.pieces, strict=True)):
            first = starts[r] if again[r] else self.told[r]
            new = [token for piece in pieces[first:] for token in piece]
            begun.append([*head, *new] if again[r] else [])
            added.append([] if again[r] else new)
        self.starts, self.told = starts, [len(pieces) for pieces in self.pieces]
        with torch.no_grad():
            self._feed(self.decoder, begun, anew=True)
            self._feed(self.decoder, added)
        return self.decoder

    def _sparse(self) -> bool:
        """Say whether most slots are holes that rows left when they were run anew."""
        return self.decoder is not None and self.decoder.mask_BL.shape[1] > 2 * self.budget

    def _new_decoder(self) -> DepthDecoder:
        return DepthDecoder(
            self.lm,
            [num_blocks(self.lm)],
            batch_size=len(self.heads),
            pad_id=self.tokenizer.pad_token_id,
            device=self.lm.device,
            everyone_done=self.everyone_done,
        )

    def _feed(self, decoder: DepthDecoder, new: list[list[int]], *, anew: bool = False) -> None:
        """Append tokens, or begin rows; with none, keep step with processes that have some."""
        if self.everyone_done(not any(new)):
            return
        if not any(new):
            nobody = torch.zeros(len(new), dtype=torch.bool, device=self.lm.device)
            decoder.push(nobody.long(), nobody, ONLY)
        elif anew:
            decoder.open(new)
        else:
            decoder.feed(new, ONLY)
