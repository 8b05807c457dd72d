"""From records to examples: in memory, or stored once per machine where data are large."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from datamodules.encode_pieces import shortened_by
from datamodules.files import first_few
from datamodules.fingerprint import files_of, fingerprint, public
from datamodules.stored_examples import storable, stored
from zoo.errors import InputError, TooLongError
from zoo.records import Record

if TYPE_CHECKING:
    from datamodules.base import ZooDataModule

log = logging.getLogger(__name__)

LARGE = 16 * 2**20  # bytes of data files from which on training examples are stored
CHANGE_NOTHING = (  # attributes of a data module on which no example depends
    *("trainer", "batch_size", "eval_batch_size", "max_tokens", "seed", "num_workers"),
    *("group_by_length", "keep_in_memory", "num_proc", "encoded_counts", "predict_split"),
)


def encoded(data: ZooDataModule, split: str, encoder: Any) -> Sequence[Any]:
    """Return the examples of a split's records; says which too long records are left out.

    Raises:
        InputError: The encoder refuses a record, none is left, or two that are evaluated share an
            id: answers are kept by id.
    """
    if split in ("val", "test", data.predict_split):
        _check_ids(data, split)
    name = stored_name(data, encoder) if split == "train" else None
    if name is None:
        examples, dropped, shortened = _in_memory(data, split, encoder)
        count = len(data.records(split))
    else:
        leave_out = partial(_left_out, data.too_long)
        read = partial(data.stream, split)
        examples = stored(name, encoder, read, leave_out, data.num_proc)
        dropped, shortened, count = examples.dropped, examples.shortened, examples.records
    data.encoded_counts[split] = count, len(dropped), shortened
    if dropped:
        said = f"{len(dropped)} of {count} records of {split!r} left out: {first_few(dropped)}"
        log.warning("data.too_long: %s", said)
    if dropped and not examples:
        raise InputError(f"data.too_long: no record of {split!r} fits into the window")
    return examples


def _check_ids(data: ZooDataModule, split: str) -> None:
    """Raise if two records of a split that differ have one id."""
    seen: dict[str, Record] = {}
    for record in data.records(split):
        before = seen.setdefault(record.id, record) if record.id else record
        if before is not record and repr(before) != repr(record):
            raise InputError(
                f"{type(data).__name__}: two records of the split {split!r} that differ have the "
                f"id {record.id!r}, and answers are kept by id; give each its own, or none"
            )


def stored_name(data: ZooDataModule, encoder: Any) -> str | None:
    """Return the name of stored training examples; None if they stay in memory.

    Raises:
        InputError: They shall be stored, and cannot be.
    """
    large = is_large(data) if data.keep_in_memory is None else not data.keep_in_memory
    if not large:
        return None
    name = fingerprint(data, settings_of(data), encoder) if storable(encoder) else None
    if name is None and data.keep_in_memory is False:
        raise InputError(
            f"data.keep_in_memory: false, but the examples of {type(encoder).__name__} depend on "
            f"more than files and settings, or training needs their records; leave it out"
        )
    return name


def is_large(data: ZooDataModule) -> bool:
    """Return whether the files of a data module have more than 16 MiB."""
    return sum(size for _, size, _ in files_of(settings_of(data))) > LARGE


def settings_of(data: ZooDataModule) -> dict[str, Any]:
    """Return the attributes of a data module that examples may depend on."""
    return {name: value for name, value in public(data).items() if name not in CHANGE_NOTHING}


def _in_memory(
    data: ZooDataModule, split: str, encoder: Any
) -> tuple[Sequence[Any], list[str], int]:
    """Return examples, names of the records left out, and how many prompts were shortened."""
    records, dropped = data.records(split), []
    if hasattr(encoder, "study"):
        try:
            encoder.study(records, split)
        except TooLongError as error:
            dropped = [_left_out(data.too_long, record, error) for record in error.records]
            unfit = set(error.records)
            records = [record for record in records if record not in unfit]
            encoder.study(records, split)
    examples, before = [], shortened_by(encoder)
    for record in records:
        try:
            examples += encoder(record)
        except TooLongError as error:
            dropped.append(_left_out(data.too_long, record, error))
    return examples, dropped, shortened_by(encoder) - before


def _left_out(too_long: str, record: Record, error: TooLongError) -> str:
    """Return the name of a record to leave out.

    Raises:
        TooLongError: None is to be left out.
    """
    if too_long == "error":
        raise TooLongError(f"{error}; data.too_long: drop leaves such records out") from error
    return record.id or "a record without id"
