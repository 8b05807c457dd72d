"""Descriptions of tasks, several a task: a YAML file of `task: {descriptions: [...]}`."""

from __future__ import annotations

from pathlib import Path

import yaml

from datamodules.files import read_text
from datamodules.tables import hint
from zoo.errors import InputError


def read_task_texts(path: Path) -> dict[str, list[str]]:
    """Return the descriptions of every task; a bare list of them will do.

    Raises:
        InputError: The file is not YAML, or a task has no list of texts.
    """
    try:
        data = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        why = getattr(error, "problem", None) or "cannot be parsed"
        raise InputError(f"{place}: invalid YAML: {why}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected tasks by name, found {type(data).__name__}")
    texts = {}
    for task, value in data.items():
        listed = value.get("descriptions") if isinstance(value, dict) else value
        if (
            not isinstance(listed, list)
            or not listed
            or not all(isinstance(text, str) and text.strip() for text in listed)
        ):
            raise InputError(f"{path}: task {task!r}: 'descriptions' must be a list of texts")
        texts[str(task)] = [text.strip() for text in listed]
    return texts


def task_text(texts: dict[str, list[str]], task: str, where: str, path: Path) -> list[str]:
    """Return the descriptions of a task.

    Raises:
        InputError: There is no such task.
    """
    if task not in texts:
        raise InputError(f"{where}: task {task!r} is not in {path}; {hint(task, texts)}")
    return texts[task]
