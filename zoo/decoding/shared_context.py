"""Several questions about one growing text, whose keys and values are computed once.

A context is a batch of rows; a row is a text that grows by pieces (`append`). `ask` runs the pieces
that are new since the last question, then the question and the answer, and removes question and
answer from the cache again. So the text is run once, however many questions and further pieces
follow. The rows of a batch decode together. Each piece is tokenised by itself, and a prompt's ids
are those of its pieces one after the other.

Where a row outgrows its window, its oldest pieces are left out (never its prefix). This changes the
positions of the others, so that row is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.decoding.constrained import only
from zoo.decoding.depth_decoder import DepthDecoder, Place
from zoo.markup import token_ids
from zoo.prompts.truncation import first_kept

ONLY = 0  # the one depth
UNREAD = -1  # in place of a row's first piece: the row has to be run from its beginning


@dataclass(frozen=True, slots=True)
class ContextState:
    """Lengths of all rows at one moment: see `SharedContext.save`."""

    lengths: list[int]
    starts: list[int]
    newest: list[int]
    num_read: list[int]
    decoder: DepthDecoder
    place: Place


class SharedContext:
    """A batch of growing texts that questions can be asked about.

    Args:
        lm: Causal language model, in evaluation mode.
        tokenizer: Its tokenizer.
        prefixes: First text of each row, not empty; never left out.
        stop: Text of the token that ends an answer.
        window: Limit in tokens of a row with a question and its answer.
        room: Tokens of the window to keep free for the longest question with its answer.
        spare: Share to free when a row outgrows its window (`truncation.first_kept`).
        everyone_done: Says whether all processes have finished, given whether this one has.
    """

    def __init__(
        self,
        lm: Any,
        tokenizer: Any,
        prefixes: Sequence[str],
        *,
        stop: str,
        window: int,
        room: int,
        spare: float = 0.0,
        everyone_done: Callable[[bool], bool] = bool,
    ) -> None:
        self.lm, self.tokenizer, self.everyone_done = lm, tokenizer, everyone_done
        self.stop_id: int = tokenizer.convert_tokens_to_ids(stop)
        self.prefixes = [self.ids(prefix) for prefix in prefixes]
        self.budget, self.spare = window - room, spare
        self.pieces: list[list[list[int]]] = [[] for _ in prefixes]
        self.starts = [UNREAD] * len(prefixes)  # first piece of each row that is in the cache
        self.newest = [1] * len(prefixes)  # pieces at the end of each row that are never left out
        self.num_read = [0] * len(prefixes)  # pieces of each row that were run or left out
        self.decoder: DepthDecoder | None = None

    @property
    def positions(self) -> int:
        """Tokens of all rows in the cache."""
        return 0 if self.decoder is None else int(self.decoder.mask_BL.sum())

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text; only its markers are control tokens, none is added."""
        return token_ids(self.tokenizer, text)

    def append(self, row: int, text: str, *, joined: bool = False) -> None:
        """Append a piece to a row; an empty one changes nothing.

        Args:
            row: Which row.
            text: The piece.
            joined: While it is among the newest pieces, the one before it is not left out.
        """
        if text:
            self.pieces[row].append(self.ids(text))
            self.newest[row] = self.newest[row] + 1 if joined else 1

    def save(self) -> ContextState:
        """Run the pieces that are new; return the state of all rows, for `restore`."""
        decoder = self._run()
        lengths = [len(pieces) for pieces in self.pieces]
        read = list(self.num_read)
        rows = lengths, list(self.starts), list(self.newest), read
        return ContextState(*rows, decoder, decoder.place())

    def restore(self, saved: ContextState) -> None:
        """Remove all pieces that were appended since a state was saved."""
        for pieces, length in zip(self.pieces, saved.lengths, strict=True):
            del pieces[length:]
        self.newest = list(saved.newest)
        if self.decoder is not saved.decoder:
            self.decoder = None
            return
        self.decoder.rewind(saved.place)
        pairs = zip(self.starts, saved.starts, strict=True)
        self.starts = [now if now == then else UNREAD for now, then in pairs]
        self.num_read = list(saved.num_read)

    @torch.no_grad()
    def ask(
        self,
        questions: Sequence[str | None],
        *,
        max_new_tokens: int,
        choices: Sequence[str] | None = None,
        temperature: float = 0.0,
    ) -> list[str]:
        """Return the answer of each row to its question; the rows stay as they were.

        Args:
            questions: One for each row; a row of None is not asked, and its answer is empty.
            max_new_tokens: Limit of an answer.
            choices: The only texts that an answer can be; None for any text.
            temperature: 0 is greedy.

        Raises:
            InputError: A row does not fit its window.
        """
        decoder = self._run()
        place = decoder.place()
        self._feed(decoder, [[] if text is None else self.ids(text) for text in questions])
        choice_ids = None if choices is None else [self.ids(choice) for choice in choices]
        allowed_ids = [[] if text is None else choice_ids for text in questions]
        free = all(ids is None for ids in allowed_ids)
        answer_ids = decoder.decode(
            ONLY,
            self._project,
            stop_id=self.stop_id,
            max_new_tokens=max_new_tokens if choice_ids is None else 1 + max(map(len, choice_ids)),
            temperature=temperature,
            close=False,
            allowed=None if free else only(allowed_ids, self.stop_id),
        )
        decoder.rewind(place)
        answers = self.tokenizer.batch_decode(answer_ids, skip_special_tokens=True)
        return [answer.strip() for answer in answers]

    @torch.no_grad()
    def score_choices(self, questions: Sequence[str | None], choices: Sequence[str]) -> Tensor:
        """Return the mean log-probability of each choice as the answer, `(R, K)`, in nats.

        The mean is over its tokens and the token that ends it.

        Args:
            questions: As for `ask`; the scores of a row of None have no meaning.
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
    def answer_nll(
        self, questions: Sequence[str | None], begun: Sequence[str], answers: Sequence[str]
    ) -> list[tuple[float, int]]:
        """Return the negative log-likelihood of each row's answer in nats, and its tokens.

        Args:
            questions: As for `ask`.
            begun: First words of each row's answer, which are not counted. A space at their end is
                read with the words that follow, as tokenizers split text.
            answers: The rest of each answer; an empty one counts nothing.

        Raises:
            InputError: A row does not fit its window.
        """
        if self.everyone_done(not any(answers)):
            return [(0.0, 0)] * len(answers)
        decoder = self._run()
        start = decoder.place()
        asked = zip(questions, begun, strict=True)
        self._feed(decoder, [self.ids((text or "") + words.rstrip(" ")) for text, words in asked])
        pairs = zip(begun, answers, strict=True)
        rows = [self.ids(" " * words.endswith(" ") + text) if text else [] for words, text in pairs]
        logps = self._score(decoder, [row or [self.stop_id] for row in rows]).tolist()
        decoder.rewind(start)
        scored = zip(logps, rows, strict=True)
        return [(-logp, len(row)) if row else (0.0, 0) for logp, row in scored]

    def _score(self, decoder: DepthDecoder, rows: Sequence[list[int]]) -> Tensor:
        """Append tokens; return the sum of their log-probabilities in each row, `(R,)`, in nats."""
        logits_RTV = self._project(decoder.follow(rows, ONLY))
        sums = []
        for logits_TV, ids in zip(logits_RTV, rows, strict=True):
            logp_TV = logits_TV[: len(ids)].float().log_softmax(-1)
            sums.append(logp_TV.gather(1, torch.tensor(ids, device=logp_TV.device)[:, None]).sum())
        return torch.stack(sums)

    def _project(self, states: Tensor) -> Tensor:
        return self.lm.lm_head(self.lm.model.norm(states))

    def _run(self) -> DepthDecoder:
        """Run the new pieces of every row; all of a row that has to leave pieces out."""
        starts = [
            first_kept(len(prefix), [*map(len, pieces)], self.budget, self.spare, newest=newest)
            for prefix, pieces, newest in zip(self.prefixes, self.pieces, self.newest, strict=True)
        ]
        again = [now != before for now, before in zip(starts, self.starts, strict=True)]
        if self.decoder is None or all(again) or self._sparse():
            self.decoder, again = self._new_decoder(), [True] * len(again)
        whole: list[list[int]] = []  # ids of the rows that are run from their beginning
        added: list[list[int]] = []  # ids of the new pieces of the other rows
        for r, (prefix, pieces) in enumerate(zip(self.prefixes, self.pieces, strict=True)):
            first = starts[r] if again[r] else self.num_read[r]
            new = [token for piece in pieces[first:] for token in piece]
            whole.append([*prefix, *new] if again[r] else [])
            added.append([] if again[r] else new)
        self.starts, self.num_read = starts, [len(pieces) for pieces in self.pieces]
        with torch.no_grad():
            self._feed(self.decoder, whole, anew=True)
            self._feed(self.decoder, added)
        return self.decoder

    def _sparse(self) -> bool:
        """Return whether most slots of the cache are unused, left by rows that were run again."""
        return self.decoder is not None and self.decoder.mask_BL.shape[1] > 2 * self.budget

    def _new_decoder(self) -> DepthDecoder:
        return DepthDecoder(
            self.lm,
            batch_size=len(self.prefixes),
            pad_id=self.tokenizer.pad_token_id,
            everyone_done=self.everyone_done,
        )

    def _feed(self, decoder: DepthDecoder, new: list[list[int]], *, anew: bool = False) -> None:
        """Append tokens, or start rows; without tokens, run along with processes that have some."""
        if self.everyone_done(not any(new)):
            return
        if not any(new):
            nobody = torch.zeros(len(new), dtype=torch.bool, device=self.lm.device)
            decoder.push(nobody.long(), nobody, ONLY)
        elif anew:
            decoder.open(new)
        else:
            decoder.feed(new, ONLY)
