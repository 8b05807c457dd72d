"""The teacher of a distilled retriever: its prompt has to be the student's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.weights import read_settings

DOCUMENT_FIRST = "document_first"  # the order that a student has
SHARED = ("template", "relevance", "choice", "labels", "system")


def check_prompt(prompt: Mapping[str, Any], source: str | None) -> None:
    """Raise if a teacher was trained with another prompt.

    Args:
        prompt: Settings of the student.
        source: Exported folder or checkpoint of the teacher, sharded or not; anything else is left
            alone.

    Raises:
        InputError: A setting differs, or the teacher read the query first; says which.
    """
    settings = read_settings(Path(source or "").expanduser())  # as a backbone's name is read
    order = settings.get("order", DOCUMENT_FIRST)
    if order != DOCUMENT_FIRST:
        raise InputError(
            f"the teacher {source} was trained with model.order: {order}, so its states of a "
            f"document depend on the query; train one with {DOCUMENT_FIRST}"
        )
    for name in SHARED:
        if name not in settings:
            continue
        value = settings[name] or ["A", "B"] if name == "labels" else settings[name]
        if value != prompt[name]:
            raise InputError(
                f"model.{name}: {prompt[name]!r}, but the teacher {source} was trained with "
                f"{value!r}; set it to that"
            )
