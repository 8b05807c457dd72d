"""The teacher of a distilled retriever: its prompt has to be the student's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.weights import CARD, read_card, read_checkpoint

SHARED = ("template", "relevance", "choice", "labels", "system")


def check_prompt(prompt: Mapping[str, Any], source: str | None) -> None:
    """Raise if a teacher was trained with another prompt.

    Args:
        prompt: Settings of the student.
        source: Exported folder or checkpoint of the teacher; anything else is left alone.

    Raises:
        InputError: A setting differs; says which.
    """
    path = Path(source or "").expanduser()  # as a backbone's name is read
    if (path / CARD).is_file():
        settings = read_card(path)["hyper_parameters"]
    elif path.is_file() and path.suffix == ".ckpt":
        settings = read_checkpoint(path).get("hyper_parameters", {})
    else:
        return
    for name in SHARED:
        if name not in settings:
            continue
        value = settings[name] or ["A", "B"] if name == "labels" else settings[name]
        if value != prompt[name]:
            raise InputError(
                f"model.{name}: {prompt[name]!r}, but the teacher {source} was trained with "
                f"{value!r}; set it to that"
            )
