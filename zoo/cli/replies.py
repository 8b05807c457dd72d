"""What `generate` shows: the replies to the first test records that a prompt can be made of."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from zoo.errors import InputError, TooLongError

log = logging.getLogger(__name__)

Row = dict[str, str]


def shown(
    model: Any, datamodule: Any, count: int, prompt: str | None, options: Mapping[str, Any]
) -> list[Row]:
    """Return what a method shows of its replies, a row each.

    Args:
        model: The method.
        datamodule: Its test split is answered if there is no prompt; its `too_long` says whether
            records that the window has no room for are left out. Others take their place.
        count: Test records to answer.
        prompt: Answer this instead.
        options: See the method's `show`.

    Raises:
        InputError: A record or the prompt is too long, or all records are; the prompt is blank.
    """
    if prompt is not None and not prompt.strip():
        raise InputError("prompt: has no text; leave it out to answer the test records")
    records = datamodule.records("test")
    if "input" in options:  # a file, read by the settings of the data
        options = {**options, "data": datamodule}
    try:
        return list(model.show(records[:count], prompt=prompt, **options))
    except TooLongError as error:
        if prompt is not None:
            raise
        if getattr(datamodule, "too_long", "error") == "error":
            raise TooLongError(f"{error}; data.too_long: drop leaves such records out") from error
    rows: list[Row] = []
    dropped: list[str] = []
    answered = 0
    for record in records:
        try:
            rows += model.show([record], prompt=None, **options)
            answered += 1
        except TooLongError:
            dropped.append(record.id or "a record without id")
        if answered == count:
            break
    if not rows:
        raise InputError("data.too_long: no record of 'test' fits into the window")
    what = f"{len(dropped)} records of 'test' left out, the first is {dropped[0]}"
    log.warning("data.too_long: %s", what)
    return rows
