"""What every data module shares: records by split, encoding by the trainer's module, loaders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar, Literal, get_args

from lightning.pytorch import LightningDataModule

from datamodules.examples import encoded, is_large, stored_name
from datamodules.files import data_path
from datamodules.hub import SCHEME
from datamodules.loader import StepLoader
from datamodules.stored_examples import is_stored
from zoo.choices import check_choices
from zoo.errors import InputError, arguments, check_counts, nearest
from zoo.records import Record

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
TooLong = Literal["error", "drop"]


class ZooDataModule(LightningDataModule):
    """Yields records of a dataset and, inside a Trainer, batches for the module being trained.

    A subclass sets `record_types` and implements `load(split)`. It knows files and nothing of
    models: `records("train")` works without tokenizer, model or trainer. In `setup` the module
    being trained is asked for its encoder.

    A subclass takes its own arguments and `**loader`, which it hands on: the command line follows
    it to the arguments below. A subclass with another default, or another meaning of one of them,
    names that one in its signature and hands it on by name.

    Args:
        batch_size: Examples per micro-batch in training.
        eval_batch_size: Examples per batch in validation, test and prediction.
        max_tokens: Close a training micro-batch before it exceeds this many tokens; None for no
            limit.
        max_train: Number of training records to keep, the first ones; None keeps all.
        max_val: Number of validation records to keep; None keeps all.
        max_test: Number of test records to keep; None keeps all.
        predict_split: Split that `predict` answers, in its order. With `train` (a teacher answers
            what another model learns) the training examples stay in memory.
        too_long: `error` refuses a record that the method's window cannot hold; `drop` leaves it
            out of the examples whole, and says how many and the first three. Answers are never cut.
        group_by_length: Put training examples of like lengths into a micro-batch, which saves
            padding. With `max_tokens`, fill micro-batches: set `batch_size`, which stays a limit,
            above the number of examples that fit.
        keep_in_memory: Whether encoded training examples stay in memory. False stores them in
            `$ZOO_CACHE/examples`, where the next start finds them; None does so if the data files
            have more than 16 MiB and the method's examples can be stored.
        num_proc: Processes that encode what is stored; None for this one alone.
        seed: Seed of the order of the training batches; the splits do not depend on it.
        num_workers: Processes that collate batches.
        **unknown: Refused.

    Raises:
        InputError: An argument that neither the subclass nor this class has, one that is none of
            its choices, or a count that is not above 0.
    """

    record_types: ClassVar[tuple[type, ...]] = ()

    def __init__(
        self,
        *,
        batch_size: int = 8,
        eval_batch_size: int = 16,
        max_tokens: int | None = None,
        max_train: int | None = None,
        max_val: int | None = None,
        max_test: int | None = None,
        predict_split: Split = "test",
        too_long: TooLong = "error",
        group_by_length: bool = False,
        keep_in_memory: bool | None = None,
        num_proc: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
        **unknown: Any,
    ) -> None:
        super().__init__()
        check_choices(self, "data")
        if unknown:
            name, valid = next(iter(unknown)), arguments(type(self)) or ()
            raise InputError(f"{type(self).__name__}: no argument {name!r}; {nearest(name, valid)}")
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.max_tokens, self.seed, self.num_workers = max_tokens, seed, num_workers
        self.too_long = too_long
        self.limits = {"train": max_train, "val": max_val, "test": max_test}
        if predict_split == "train" and keep_in_memory is False:
            raise InputError(
                "data.keep_in_memory: false stores training examples without the records that "
                "data.predict_split: train answers; leave it out"
            )
        self.predict_split = predict_split
        self.group_by_length = group_by_length
        self.keep_in_memory = True if predict_split == "train" else keep_in_memory
        self.num_proc = num_proc
        counts = ("batch_size", "eval_batch_size", "max_tokens", "num_workers", "num_proc")
        check_counts("data", {name: getattr(self, name) for name in counts})
        check_counts("data", {f"max_{split}": limit for split, limit in self.limits.items()})
        # split -> records encoded, records left out, prompts shortened
        self.encoded_counts: dict[str, tuple[int, int, int]] = {}
        self._records: dict[str, list[Record]] = {}
        self._examples: dict[str, Sequence[Any]] = {}
        self._encoder: Any = None

    def load(self, split: str) -> Iterable[Record]:
        """Read the records of a split; a subclass implements this, for large files lazily."""
        raise TypeError(f"{type(self).__name__} does not implement load(split)")

    def records(self, split: str) -> list[Record]:
        """Return the records of a split, at most `max_<split>` of them, and keep them.

        Args:
            split: `train`, `val` or `test`.

        Raises:
            InputError: There is no such split, it is empty, or its files are wrong.
        """
        if split not in self._records:
            self._records[split] = list(self.stream(split))
        return self._records[split]

    def stream(self, split: str) -> Iterator[Record]:
        """Yield the same as `records` and keep nothing, reading as far as is asked for."""
        if split not in SPLITS:
            raise InputError(f"no split {split!r}; {nearest(split, SPLITS)}")
        record = None
        for record in islice(self.load(split), self.limits[split]):
            yield record
        if record is None:
            raise InputError(f"{type(self).__name__}: the split {split!r} has no records")

    def examples(self, split: str, encoder: Any) -> Sequence[Any]:
        """Return the encoded examples of a split, encoded once; stored ones have no record.

        Raises:
            InputError: The encoder does not take these records; lists the data modules that fit.
        """
        self.check(encoder)
        if self._encoder is not encoder:
            self._examples, self._encoder = {}, encoder
        if split not in self._examples:
            self._examples[split] = encoded(self, split, encoder)
        return self._examples[split]

    def check(self, encoder: Any) -> None:
        """Raise unless the encoder takes at least one of this data module's record types.

        Raises:
            InputError: It takes none; names the data modules that fit.
        """
        if set(self.record_types) & set(encoder.records):
            return
        fitting = [
            cls.__name__ for cls in all_modules() if set(cls.record_types) & set(encoder.records)
        ]
        takes = ", ".join(kind.__name__ for kind in encoder.records)
        yields = ", ".join(kind.__name__ for kind in self.record_types)
        raise InputError(
            f"data: {type(self).__name__} yields {yields}, but the method takes {takes}; data "
            f"modules that fit: {', '.join(sorted(fitting)) or 'none'}"
        )

    def check_path(self) -> None:
        """Refuse a `path` that is not there, before a model is loaded.

        Raises:
            InputError: No file or folder, and nothing inside an archive, has this path.
        """
        path = getattr(self, "path", None)
        if not isinstance(path, str) or path.startswith(SCHEME):
            return
        found = data_path(path)
        if not found.exists() and not any(parent.is_file() for parent in found.parents):
            raise InputError(f"data.path: {path}: no such file or folder")

    def prepare(self, stage: str, encoder: Any) -> None:
        """Read and encode everything a stage needs, so that bad input shows before anything else.

        Args:
            stage: `fit`, `validate`, `test` or `predict`.
            encoder: The method's encoder.
        """
        for split in self.needs(stage):
            self.examples(split, encoder)

    def needs(self, stage: str) -> tuple[Split, ...]:
        """Return the splits that a stage reads."""
        if stage == "fit":
            return "train", "val"
        return ({"validate": "val", "predict": self.predict_split}.get(stage, "test"),)

    def keep_head(self, encoder: Any, records: int) -> bool:
        """Keep the first training records alone, if data are large and not encoded yet.

        Args:
            encoder: The method's encoder.
            records: How many to keep.

        Returns:
            Whether there is now a limit.
        """
        name = stored_name(self, encoder)
        if (name is None and not is_large(self)) or (name is not None and is_stored(name)):
            return False
        limit = self.limits["train"]
        self.limits["train"] = records if limit is None else min(limit, records)
        self.keep_in_memory = True
        return True

    def setup(self, stage: str) -> None:
        """Encode with the encoder of the module that the trainer runs."""
        self.prepare(stage, self._current_encoder())

    def train_dataloader(self) -> StepLoader:
        """Return the shuffled, resumable training loader; a reloaded one starts at its epoch."""
        trainer: Any = self.trainer
        if trainer is None:
            return self._loader("train", self.batch_size, shuffle=True)
        steps = trainer.accumulate_grad_batches
        loader = self._loader("train", self.batch_size, shuffle=True, accumulate=steps)
        if trainer.reload_dataloaders_every_n_epochs:
            loader.epoch = trainer.current_epoch
        loader.limit_epochs(trainer.limit_train_batches)
        return loader

    def val_dataloader(self) -> StepLoader:
        """Return the validation loader."""
        return self._loader("val", self.eval_batch_size)

    def test_dataloader(self) -> StepLoader:
        """Return the test loader."""
        return self._loader("test", self.eval_batch_size)

    def predict_dataloader(self) -> StepLoader:
        """Return the loader of the split to predict, in the order of its records."""
        return self._loader(self.predict_split, self.eval_batch_size)

    def _current_encoder(self) -> Any:
        """Return the encoder of the trainer's module now; before there is one, the last used."""
        module: Any = None if self.trainer is None else self.trainer.lightning_module
        if module is not None:
            return module.encoder()
        if self._encoder is None:
            raise InputError("loaders need a Trainer; use records(split) without one")
        return self._encoder

    def _loader(
        self, split: str, batch_size: int, *, shuffle: bool = False, **options: Any
    ) -> StepLoader:
        encoder = self._current_encoder()
        trainer = self.trainer
        on_cuda = trainer is not None and trainer.strategy.root_device.type == "cuda"
        examples = self.examples(split, encoder)
        loader = StepLoader(
            examples,
            encoder.collate,
            batch_size=batch_size,
            max_tokens=self.max_tokens if shuffle else None,
            shuffle=shuffle,
            group_by_length=self.group_by_length,
            seed=self.seed,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            num_workers=self.num_workers,
            pin_memory=on_cuda,
            **options,
        )
        if not len(loader):
            raise InputError(f"{type(self).__name__}: nothing to learn in the split {split!r}")
        return loader


def all_modules() -> list[type[ZooDataModule]]:
    """Return the data modules of this package."""
    import datamodules

    found = [getattr(datamodules, name) for name in datamodules.__all__]
    return [cls for cls in found if cls is not ZooDataModule]
