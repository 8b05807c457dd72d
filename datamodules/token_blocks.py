"""Blocks of tokens from the texts of a source, and a place in them to go on from.

The token ids of texts, each with its end, are laid end to end and cut every `length` tokens. Two
blocks share a token: the last target of one is the first input of the next, so that every token but
the first one is learned once. A place is that of a text and of a token in it: whoever goes on reads
that text again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator

from datamodules.text_shards import ReadingPlace, TextShards
from zoo.errors import InputError

log = logging.getLogger(__name__)


class TokenBlocks:
    """The blocks that a lane reads from a source, again and again.

    Args:
        shards: The texts.
        ids: Returns the token ids of a text, with its end.
        length: Targets of a block; it has one more token.
        lane: Which of the readers this is.
        lanes: Number of readers.
        max_epochs: How often the source may be read.
        state: What `state_dict` returned; None begins anew.
    """

    def __init__(
        self,
        shards: TextShards,
        ids: Callable[[str], list[int]],
        length: int,
        *,
        lane: int = 0,
        lanes: int = 1,
        max_epochs: int = 4,
        state: dict[str, int] | None = None,
    ) -> None:
        self.shards, self.ids, self.length = shards, ids, length
        self.lane, self.lanes, self.max_epochs = lane, lanes, max_epochs
        self._given = state
        state = dict(state or {"offset": 0})
        self._offset = state.pop("offset")  # of the next block's first token in the first text
        self._texts = self._read(ReadingPlace(**state))
        self._pending: deque[tuple[ReadingPlace, int]] = (
            deque()
        )  # texts begun or read ahead, and sizes
        self._tokens: list[int] = []  # theirs

    def __next__(self) -> list[int]:
        """Return the token ids of the next block, `length + 1` of them.

        Raises:
            InputError: A shard cannot be read, or the source was read `max_epochs` times.
        """
        end = self._offset + self.length + 1
        while len(self._tokens) < end:
            place, ids = next(self._texts)
            self._pending.append((place, len(ids)))
            self._tokens += ids
        block = self._tokens[self._offset : end]
        self._offset += self.length
        done = 0
        while self._offset >= done + self._pending[0][1]:
            done += self._pending.popleft()[1]
        if done:
            self._offset -= done
            del self._tokens[:done]
        return block

    def state_dict(self) -> dict[str, int] | None:
        """Return where the next block begins; None if nothing was ever read."""
        if not self._pending:  # nothing since it was made
            return self._given
        return {**self._pending[0][0]._asdict(), "offset": self._offset}

    def _read(self, place: ReadingPlace) -> Iterator[tuple[ReadingPlace, list[int]]]:
        """Yield the texts' token ids from a place on, epoch after epoch."""
        began = place.epoch
        for epoch in range(began, self.max_epochs):
            place = place if epoch == began else ReadingPlace(epoch)
            if epoch > began:
                said = "data.sources.%s: read %d times, now again (reader %d of %d)"
                log.warning(said, self.shards.name, epoch, self.lane + 1, self.lanes)
            found = False
            for place_of_text, text in self.shards.read(place, self.lane, self.lanes):
                found = True
                yield place_of_text, self.ids(text)
            if not found and place == ReadingPlace(epoch):
                raise InputError(
                    f"data.sources.{self.shards.name}: no text for reader {self.lane + 1} of "
                    f"{self.lanes} in {self.shards.path}; it needs more texts"
                )
        raise InputError(
            f"data.sources.{self.shards.name}: smaller than its share: it was read "
            f"{self.max_epochs} times (data.max_epochs); add texts, or lower its share or "
            f"data.num_tokens"
        )
