"""Loaders of the user's own: what they yield must be what the method's encoder makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, default_collate

from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.evaluation import EvaluatedModule

REMEDY = (
    "give a data module of the zoo (a subclass of datamodules.ZooDataModule), or loaders of "
    "batches: datamodules.loader.StepLoader(examples, encoder.collate, batch_size=...), where "
    "encoder is module.encoder() and examples are what encoder(record) returns"
)


def check_loaders(module: EvaluatedModule, stage: str) -> None:
    """Refuse loaders of records, before anything runs.

    Args:
        module: The module that the trainer runs.
        stage: `fit`, `validate`, `test` or `predict`.

    Raises:
        InputError: Records are joined by torch, or into something that is no batch.
    """
    for loader in _loaders(module.trainer, stage):
        record = first(loader.dataset) if isinstance(loader, DataLoader) else None
        if not isinstance(record, module.takes):
            continue
        join = loader.collate_fn
        if join is default_collate or not hasattr(join([record]), "normalizers"):
            raise InputError(f"data: a DataLoader of {type(record).__name__} records; {REMEDY}")


def first(dataset: Any) -> Any:
    """Return the first item of a dataset with items by number, None of another."""
    return dataset[0] if hasattr(dataset, "__getitem__") and len(dataset) else None


def _loaders(trainer: Any, stage: str) -> Iterator[Any]:
    loops = {
        "fit": (trainer.fit_loop, trainer.fit_loop.epoch_loop.val_loop),
        "validate": (trainer.validate_loop,),
        "test": (trainer.test_loop,),
        "predict": (trainer.predict_loop,),
    }
    for loop in loops[stage]:
        source = loop._data_source
        if source.is_defined() and not hasattr(source.instance, "prepare"):  # a ZooDataModule's fit
            given = source.dataloader()
            yield from given if isinstance(given, (list, tuple)) else [given]
