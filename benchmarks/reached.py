"""Which tests reach which lines, and how long each takes: two plugins for pytest.

`Reach` notes it in one run of all tests; `Chosen` runs those of interest only, the cheapest first.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

Line = tuple[str, int]


class Reach:
    """Note the lines of functions that each test runs, and its seconds of processor time.

    What a fixture of more than one test runs counts for every test that uses it. A result that the
    first of some tests makes and keeps otherwise, as in a cache, counts for this one alone; what a
    test runs in another process is not seen.

    Args:
        folder: The files whose lines are noted; or one file.
        report: The JSON that is written at the end.
    """

    def __init__(self, folder: Path, report: Path) -> None:
        self.folder, self.report = str(folder.resolve()), report
        self.tests: dict[str, dict[str, Any]] = {}
        self.lines: set[Line] = set()
        self.of_fixtures: dict[str, set[Line]] = defaultdict(set)

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        """Note a line; modules and classes run once, whoever imports them first."""
        code = frame.f_code
        if event == "call":
            if not code.co_filename.startswith(self.folder):
                return None
            if not code.co_flags & inspect.CO_OPTIMIZED:
                return None
        line = code.co_firstlineno if event == "call" else frame.f_lineno
        self.lines.add((code.co_filename, line))
        return self.trace

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Iterator[None]:
        """Watch a test with its fixtures."""
        self.lines = set()
        start = time.process_time()
        threading.settrace(self.trace)
        sys.settrace(self.trace)
        yield
        sys.settrace(None)
        threading.settrace(None)
        seconds = time.process_time() - start
        fixtures = list(getattr(item, "fixturenames", ()))
        self.tests[item.nodeid] = {"seconds": seconds, "lines": self.lines, "fixtures": fixtures}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        """Keep apart what a shared fixture runs."""
        mine, self.lines = self.lines, set()
        yield
        if request.scope != "function":
            self.of_fixtures[fixturedef.argname] |= self.lines
        self.lines |= mine

    def pytest_sessionfinish(self) -> None:
        """Write seconds and lines of each test."""
        for test in self.tests.values():
            shared = [self.of_fixtures.get(name, set()) for name in test.pop("fixtures")]
            test["lines"] = sorted(test["lines"].union(*shared))
        self.report.write_text(json.dumps(self.tests), "utf-8")


class Chosen:
    """Run tests named by their ids, the cheapest first.

    Args:
        seconds: What each costs.
    """

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = seconds

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leave the others out."""
        kept = [item for item in items if item.nodeid in self.seconds]
        items[:] = sorted(kept, key=lambda item: self.seconds[item.nodeid])


def choose(tests: Mapping[str, dict[str, Any]], file: Path, line: int) -> dict[str, float]:
    """Return the tests that reach a line's statement, with their seconds.

    Of a function's head these are also the tests that call nothing: they may read its defaults.
    Where none does (a constant of a module, a field of a class, a line that only another process
    runs) these are all tests.
    """
    wanted = {(str(file.resolve()), number) for number in statement(file, line)}
    is_head = any(
        isinstance(node, ast.FunctionDef) and node.lineno <= line < node.body[0].lineno
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
    )
    reaching = {
        name: test["seconds"]
        for name, test in tests.items()
        if not wanted.isdisjoint(map(tuple, test["lines"])) or (is_head and not test["lines"])
    }
    return reaching or {name: test["seconds"] for name, test in tests.items()}


def statement(file: Path, line: int) -> range:
    """Return the lines of the smallest statement around a line; of a block, those of its head."""
    found = range(line, line + 1)
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(node, ast.stmt):
            continue
        body = getattr(node, "body", None)
        decorators = [d.lineno for d in getattr(node, "decorator_list", [])]
        first = min([node.lineno, *decorators])
        end = body[0].lineno if body else (node.end_lineno or node.lineno) + 1
        if first <= line < max(end, first + 1):
            found = range(first, max(end, first + 1))
    return found
