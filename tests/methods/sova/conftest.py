"""The dilemmas of the sample, and an index of values built from a small table."""

from __future__ import annotations

import pytest
from methods.sova.graph_parts import TABLE, TEXTS

from datamodules import DailyDilemmas
from zoo.methods.sova.index import ValueIndex
from zoo.records import Dilemma


@pytest.fixture(scope="module")
def dilemmas() -> list[Dilemma]:
    return DailyDilemmas().records("test")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ValueIndex:
    folder = tmp_path_factory.mktemp("index") / "made"
    return ValueIndex.build(folder, TABLE, TEXTS, max_size=4)
