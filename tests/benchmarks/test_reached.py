"""Which tests a mutant runs: those that reach its statement, the cheapest first."""

from __future__ import annotations

import importlib.util
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.reached import Chosen, Reach, choose, statement

SOURCE = """LIMIT = 3


def near(x, far=2):
    if x < far:
        return max(
            x,
            LIMIT,
        )
    return far


@staticmethod
def other(
    x=1,
):
    return x
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "code" / "near.py"
    path.parent.mkdir()
    path.write_text(SOURCE, "utf-8")
    return path


@contextmanager
def watched(reach: Reach, name: str, *fixtures: str) -> Any:
    """Do what pytest does around a test; the tracer of the run itself comes back."""
    outer = sys.gettrace()
    hook = reach.pytest_runtest_protocol(SimpleNamespace(nodeid=name, fixturenames=fixtures))
    next(hook)
    yield
    next(hook, None)
    sys.settrace(outer)


def imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("near", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("line", "wanted"),
    [(1, [1]), (4, [4]), (5, [5]), (7, [6, 7, 8, 9]), (10, [10]), (15, [13, 14, 15, 16])],
)
def test_a_statement_is_all_of_its_lines_and_a_block_its_head(
    file: Path, line: int, wanted: list[int]
) -> None:
    assert list(statement(file, line)) == wanted


def test_a_mutant_runs_the_tests_that_reach_it(file: Path, tmp_path: Path) -> None:
    reach = Reach(file.parent, tmp_path / "report.json")
    with watched(reach, "low"):
        module = imported(file)  # what an import runs counts for nobody
        module.near(1)
    with watched(reach, "high"):
        module.near(5)
    with watched(reach, "neither"):
        json.dumps([])
    shared = SimpleNamespace(argname="shared"), SimpleNamespace(scope="session")
    with watched(reach, "first", "shared"):
        hook = reach.pytest_fixture_setup(*shared)
        next(hook)
        module.other.__func__()
        next(hook, None)
    with watched(reach, "second", "shared"):
        pass
    reach.pytest_sessionfinish()
    tests = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert set(choose(tests, file, 4)) == {"low", "high", "neither"}, "one may read the signature"
    assert set(choose(tests, file, 8)) == {"low"}
    assert set(choose(tests, file, 10)) == {"high"}
    assert set(choose(tests, file, 15)) == {"first", "second", "neither"}
    assert set(choose(tests, file, 17)) == {"first", "second"}
    assert set(choose(tests, file, 1)) == set(tests), "nobody reaches a constant: all"


def test_the_cheapest_comes_first() -> None:
    items = [SimpleNamespace(nodeid=name) for name in ("slow", "other", "fast")]
    Chosen({"slow": 2.0, "fast": 1.0}).pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == ["fast", "slow"]
