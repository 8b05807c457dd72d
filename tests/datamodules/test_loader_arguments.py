"""The loader's arguments: written once, in the base, and there for every data module."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule

import datamodules
from datamodules.base import ZooDataModule
from zoo.cli.argument_errors import explain
from zoo.cli.config_files import read
from zoo.cli.parser import ComplaintError, Parser

LOADER = {
    "batch_size": ("int", 8, "Examples per micro-batch in training."),
    "eval_batch_size": ("int", 16, "Examples per batch in validation, test and prediction."),
    "max_tokens": ("int | null", None, "before it exceeds this many tokens; None for no limit."),
    "max_train": ("int | null", None, "Number of training records to keep"),
    "max_val": ("int | null", None, "Number of validation records to keep"),
    "max_test": ("int | null", None, "Number of test records to keep"),
    "group_by_length": ("bool", False, "Put training examples of like lengths"),
    "keep_in_memory": ("bool | null", None, "Whether encoded training examples stay in memory."),
    "num_proc": ("int | null", None, "Processes that encode what is stored"),
    "seed": ("int", 0, "Seed of the"),
    "num_workers": ("int", 0, "Processes that collate batches."),
}
"""Argument -> type, default, and a part of what the help says."""

WITHOUT_LOADER = ("Documents",)  # serves `index` and `search`, which read no batches
NAMES = [n for n in datamodules.__all__ if n not in ("ZooDataModule", *WITHOUT_LOADER)]
every_module = pytest.mark.parametrize("name", NAMES)


def parser() -> Parser:
    """Return a parser of the command line's `--data` alone; the whole one takes seconds."""
    parser = Parser(allow_abbrev=False)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    return parser


def help_text(path: str) -> str:
    """Return what `--data.help PATH` prints, in one line."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        parser().parse_args([f"--data.help={path}"])
    return " ".join(out.getvalue().split())


def complaint(*args: str) -> str:
    """Return the line that the command line prints for bad arguments."""
    with pytest.raises(ComplaintError) as caught:
        parser().parse_args([*args])
    return explain(str(caught.value), [*read(args)], ["data"], {"data": (LightningDataModule, [])})


def test_every_data_module_is_tested() -> None:
    assert len(NAMES) >= 29
    assert all(issubclass(getattr(datamodules, name), ZooDataModule) for name in NAMES)


@every_module
def test_help_documents_every_loader_argument(name: str) -> None:
    """Each with its type, its default and what it means."""
    text = help_text(f"datamodules.{name}")
    for argument, (kind, default, meaning) in LOADER.items():
        shown = "null" if default is None else default
        entry = re.search(
            rf"--data\.{argument} [A-Za-z_{{,}}]+ (.*?) \(type: (.*?), default: (.*?)\)", text
        )
        assert entry is not None, argument
        assert meaning in entry[1], argument
        assert entry.groups()[1:] == (kind, str(shown)), argument


@every_module
def test_settings_hold_every_loader_argument(name: str) -> None:
    """`config.yaml` of a run is written from them."""
    settings = parser().parse_args([f"--data=datamodules.{name}", "--data.max_val=7"])
    defaults = {argument: default for argument, (_, default, _) in LOADER.items()}
    assert {k: settings.data.init_args[k] for k in LOADER} == {**defaults, "max_val": 7}


@every_module
def test_misspelt_argument_on_the_command_line(name: str) -> None:
    message = complaint("--data", f"datamodules.{name}", "--data.batch_sise", "3")
    assert message.startswith(
        "data.batch_sise: no such key 'batch_sise'; did you mean 'batch_size'?"
    )


@every_module
def test_wrong_type_on_the_command_line(name: str) -> None:
    message = complaint("--data", f"datamodules.{name}", "--data.num_workers", "many")
    assert message == "data.num_workers: 'many' does not fit; expected int"


@every_module
def test_misspelt_argument_in_python(name: str, refused: Callable[..., str]) -> None:
    cls: Any = getattr(datamodules, name)
    for argument in LOADER:
        given = {f"{argument}s": 3}
        said = f"{name}: no argument '{argument}s'; did you mean {argument!r}?"
        refused(lambda given=given: cls(**given), said)


@every_module
def test_values_reach_the_loader(name: str) -> None:
    cls: Any = getattr(datamodules, name)
    values = {argument: 3 + i for i, argument in enumerate(LOADER)}
    data = cls(**values)
    limits = {f"max_{split}": limit for split, limit in data.limits.items()}
    assert {k: limits.get(k) or getattr(data, k) for k in LOADER} == values


def test_own_arguments_are_suggested_too(refused: Callable[..., str]) -> None:
    refused(lambda: datamodules.ESConv(pth="x"), "no argument 'pth'; did you mean 'path'?")


def test_a_subclass_keeps_its_own_default() -> None:
    """It names the argument and hands it on; the others still come from the base."""
    assert Wide().batch_size == 64
    assert Wide(batch_size=2, seed=4).batch_size == 2
    assert Wide(seed=4).seed == 4
    text = help_text(f"{__name__}.Wide")
    assert "default: 64" in text
    assert "--data.num_workers" in text


class Wide(datamodules.ESConv):
    """ESConv in large batches.

    Args:
        batch_size: Dialogues per micro-batch.
        **loader: See `ESConv`.
    """

    def __init__(self, *, batch_size: int = 64, **loader: Any) -> None:
        super().__init__(batch_size=batch_size, **loader)
