"""Texts of several sources in exact shares of tokens, streamed: nothing is read whole.

For pre-training, and for continuing it with an additional language or domain:

    data:
      class_path: datamodules.MixtureCorpus
      init_args:
        sources: {english: c4/, german: wiki.de.jsonl.gz}
        shares: {german: 0.33}          # of the tokens; the source that is not named gets the rest
        num_tokens: 100_000_000

The forms of a source are those of `datamodules.text_shards`. The first texts of each source are
held out: `held_out` of them are the validation split, as many more the test split, under the
source's name. See `datamodules.mixture_schedule` for what "exact" means, and
`datamodules.mixture_loader` for what a checkpoint keeps.

A method that trains on it has an encoder with `document_ids(text)`, the token ids of a text with
its end, and `block(ids)`, which makes an example of n tokens from n + 1 token ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from datamodules.base import ZooDataModule
from datamodules.chat_rows import OnBad
from datamodules.files import SAMPLES
from datamodules.mixture_loader import MixtureLoader, complete_shares
from datamodules.mixture_schedule import Order
from datamodules.text_shards import TextShards
from zoo.errors import InputError, check_counts
from zoo.records import PlainText, Record

HELD_OUT = {"val": 0, "test": 1}


class MixtureCorpus(ZooDataModule):
    """Streamed `PlainText` of several sources for training, held-out ones for validation.

    A training example is a block of as many tokens as the method's window holds, cut from texts
    that are laid end to end; `batch_size` counts blocks.

    Args:
        sources: Path of each source by its name: a file, a folder of shards, or
            `hf://owner/name@revision`. None reads small samples that come with the package.
        shares: Share of the tokens of each source, 0 to 1; one source may be left out. None is
            the same share for all.
        num_tokens: Tokens of a training epoch over all processes.
        order: `exact` or `random`, see `datamodules.mixture_schedule`.
        field: Field or column of the text.
        shuffle: Texts of a file that change places with each other, by the seed; 1 keeps its order.
        held_out: Texts of each source in the validation split, and in the test split.
        max_epochs: How often a source may be read; from the second time on each reader says so in
            a line.
        on_bad: `error` stops at a row or shard that cannot be read; `skip` leaves it out, and says
            which.
        **loader: Batches; see `ZooDataModule`. `max_train`, `max_tokens`, `too_long`,
            `group_by_length`, `keep_in_memory` and `num_proc` have no meaning for a stream.

    Raises:
        InputError: Shares that are no mixture of the sources, or a source that cannot be found.
    """

    record_types = (PlainText,)

    def __init__(
        self,
        sources: Mapping[str, str] | None = None,
        shares: Mapping[str, float] | None = None,
        num_tokens: int = 1_000_000,
        order: Order = "exact",
        field: str = "text",
        shuffle: int = 512,
        held_out: int = 100,
        max_epochs: int = 4,
        on_bad: OnBad = "error",
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        counts = {"num_tokens": num_tokens, "shuffle": shuffle, "max_epochs": max_epochs}
        check_counts("data", {**counts, "held_out": held_out})
        if sources is None:
            sources, held_out = samples(), 2
        if not sources:
            raise InputError("data.sources: name at least one source")
        self.sources = dict(sources)
        self.shares = complete_shares(self.sources, shares or {})
        self.num_tokens, self.order, self.held_out = num_tokens, order, held_out
        self.max_epochs = max_epochs
        rest: dict[str, Any] = {"field": field, "seed": self.seed, "on_bad": on_bad}
        self.shards = {
            name: TextShards(name, path, held_out=2 * held_out, shuffle=shuffle, **rest)
            for name, path in sources.items()
        }

    def load(self, split: str) -> list[Record]:
        """Return the held-out texts of every source, of kind its name.

        Raises:
            InputError: A source has no more texts than those; or `train`, which is streamed.
        """
        if split not in HELD_OUT:
            raise InputError("MixtureCorpus: the training texts are streamed; read train_blocks")
        start = HELD_OUT[split] * self.held_out
        return [
            PlainText(text, kind=name, id=place)
            for name, shards in self.shards.items()
            for place, text in shards.head(start, start + self.held_out)
        ]

    def prepare(self, stage: str, encoder: Any) -> None:
        """Encode the held-out texts of a stage, and read a first batch if it trains.

        Raises:
            InputError: See `load`; or the method learns no blocks of plain text.
        """
        self.check(encoder)
        if not hasattr(encoder, "document_ids"):
            raise InputError(
                "data: MixtureCorpus streams blocks of plain text, which the method does not learn;"
                " zoo.ALMR does"
            )
        self._encoder = encoder
        for split in self.needs(stage):
            if (stage, split) != ("fit", "train"):
                super().examples(split, encoder)
        if stage == "fit":
            self.examples("train", encoder)

    def examples(self, split: str, encoder: Any) -> Sequence[Any]:
        """Return the encoded held-out texts of a split; of `train` the first blocks alone."""
        if split != "train":
            return super().examples(split, encoder)
        loader = self._stream(encoder, num_workers=0)
        return [encoder.block(ids) for ids in loader.first_blocks()]

    def keep_head(self, encoder: Any, records: int) -> bool:
        """Return False: nothing is read whole anyway."""
        return False

    def train_dataloader(self) -> MixtureLoader:  # type: ignore[override]
        """Return the streaming, resumable training loader."""
        trainer: Any = self.trainer
        place = {} if trainer is None else _place(trainer)
        loader = self._stream(self._current_encoder(), num_workers=self.num_workers, **place)
        if trainer is not None:
            loader.limit_epochs(trainer.limit_train_batches)
        return loader

    def _stream(self, encoder: Any, *, num_workers: int, **place: int) -> MixtureLoader:
        return MixtureLoader(
            self.shards,
            self.shares,
            encoder.document_ids,
            partial(_collated, encoder),
            length=encoder.max_length,
            batch_size=self.batch_size,
            num_tokens=self.num_tokens,
            order=self.order,
            max_epochs=self.max_epochs,
            seed=self.seed,
            num_workers=num_workers,
            **place,
        )


def _place(trainer: Any) -> dict[str, int]:
    steps = trainer.accumulate_grad_batches
    return {"rank": trainer.global_rank, "world_size": trainer.world_size, "accumulate": steps}


def samples() -> dict[str, str]:
    """Return the paths of the samples that come with the package."""
    return {name: str(SAMPLES / f"corpus.{name}.txt") for name in ("english", "german")}


def _collated(encoder: Any, blocks: list[list[int]]) -> Any:
    """Return a batch of blocks; what each of them learns is the same in all processes."""
    return encoder.collate([encoder.block(ids) for ids in blocks], {})
