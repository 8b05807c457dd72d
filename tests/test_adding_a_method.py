"""`zoo/methods/README.md` is true: its files are written into a copy of the project and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from running import ROOT

PAGE = (ROOT / "zoo/methods/README.md").read_text("utf-8")
BLOCKS = re.findall(r"^\d+\. (.*?)\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
AFTER = {  # file that grows by a line -> the line before it
    "zoo/__init__.py": "_HOME = {\n",
    "tests/conftest.py": "PROPERTIES = {\n",
    "tests/runs.py": "TRAINED: dict[str, tuple[str, ...]] = {\n",
    "README.md": "**What the papers compare with**\n\n",
}
VERBS = "fit or resume or export or generate or predict or check"


def project(folder: Path) -> Path:
    """Copy what the tests of a method need."""
    for name in ("zoo", "datamodules", "configs", "tests", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "results", "stored")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("README.md", "pyproject.toml", "setup.cfg"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def write(folder: Path) -> None:
    """Do what the page says, step by step."""
    for step, block in BLOCKS:
        name = re.findall(r"`([\w/]+\.\w+)`", step)[0]
        path = folder / name
        if name not in AFTER:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block)
            continue
        text = path.read_text("utf-8")
        assert AFTER[name] in text
        path.write_text(text.replace(AFTER[name], AFTER[name] + block, 1))


def run(folder: Path, *args: str) -> str:
    """Run a command in the copy; return what it printed."""
    own = {"PYTHONPATH": os.pathsep.join((str(folder), str(folder / "tests")))}
    done = subprocess.run(
        [sys.executable, "-m", *args],
        cwd=folder,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_page_names_every_file() -> None:
    assert len(BLOCKS) == 10
    assert {re.findall(r"`([\w/]+\.\w+)`", step)[0] for step, _ in BLOCKS} > set(AFTER)


def test_a_method_that_follows_the_page_is_whole(tmp_path: Path) -> None:
    """Its property, every verb, and the rules of the house hold; the table names it."""
    folder = project(tmp_path / "project")
    write(folder)
    files = (
        "tests/methods/shallow",
        "tests/methods/test_every_method.py",
        "tests/test_architecture.py",
    )
    chosen = f"(shallow and (no_block_above or {VERBS})) or (architecture and not light)"
    printed = run(folder, "pytest", "-n0", "-v", *files, "-k", chosen, "-p", "no:cacheprovider")
    assert len(re.findall(r"shallow.* PASSED", printed)) >= 7
    assert re.search(r"shallow +1  passed", printed)
