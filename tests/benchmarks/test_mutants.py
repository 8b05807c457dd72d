"""Mutations change one expression each, and a run says which of them no test notices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.mutations import mutations_of

SOURCE = '''"""Doc 1."""
def clip(value: int = 3, low: float = 0.5) -> int:
    """Doc 2."""
    log(value)
    if value < 1 and not low:
        raise InputError("1 < 2")
    return copy.deepcopy(value) + value.item()
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "clip.py"
    path.write_text(SOURCE, "utf-8")
    return path


def test_every_expression_is_changed_and_words_are_not(file: Path):
    changes = {(m.line, m.before, m.after) for m in mutations_of(file)}
    assert changes == {
        (2, "3", "4"),
        (2, "0.5", "1.5"),
        (4, "log(value)", "pass"),
        (4, "log(value)", "value"),
        (5, "value < 1 and not low", "True"),
        (5, "value < 1 and not low", "False"),
        (5, "<", "<="),
        (5, "1", "2"),
        (5, "and", "or"),
        (5, "not ", ""),
        (7, "copy.deepcopy(value)", "value"),
        (7, "+", "-"),
        (7, "value.item()", "value"),
    }


def test_a_mutation_changes_its_line_alone(file: Path):
    for mutation in mutations_of(file):
        pairs = zip(SOURCE.splitlines(), mutation.apply(SOURCE).splitlines(), strict=True)
        changed = [number for number, (old, new) in enumerate(pairs, 1) if old != new]
        assert changed == [mutation.line]


@pytest.mark.slow
@pytest.mark.parametrize(("checked", "caught"), [("is_small(1)", 0), ("not is_small(2)", 2)])
def test_a_run_counts_what_the_tests_catch(tmp_path: Path, checked: str, caught: int):
    """`x < 2` becomes `x <= 2` or `x < 3`: a test at 1 notices neither, one at 2 both."""
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "__init__.py").touch()
    (tmp_path / "zoo" / "small.py").write_text("def is_small(x):\n    return x < 2\n", "utf-8")
    (tmp_path / "tests").mkdir()
    test = f"from zoo.small import is_small\n\n\ndef test_it():\n    assert {checked}\n"
    (tmp_path / "tests" / "test_small.py").write_text(test, "utf-8")
    command = [sys.executable, "-m", "benchmarks.mutants", "zoo/small.py", "--tests", "tests"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run(
        [*command, "--json", "mutants.json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[-1] == f"{caught} of 2 caught"
    entries = json.loads((tmp_path / "mutants.json").read_text("utf-8"))
    assert [entry["survived"] for entry in entries] == [not caught] * 2
