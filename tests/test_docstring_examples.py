"""The examples in docstrings say what the functions return."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
SHOWN = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("zoo", "datamodules", "benchmarks")
    for file in (ROOT / package).rglob("*.py")
    if ">>> " in file.read_text("utf-8")
)


@pytest.mark.parametrize("name", SHOWN)
def test_examples_are_true(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), extraglobs={"torch": torch})
    assert found.attempted
    assert found.failed == 0
