"""Single-line mutations: which lines of a folder could break without a test that fails.

    python -m benchmarks.mutants zoo/methods/hdlm --tests tests/methods/hdlm --count 40 \
        --json runs/mutants-hdlm.json

Each mutant changes one expression of one line (`benchmarks/mutations.py`) in a copy of the tree;
the tests run in a fork, so that torch is imported once, and stop at the first failure. A first run
of all tests without a mutation notes which of them reach a line (`benchmarks/reached.py`): only
these run for its mutants, the cheapest first. A mutant that no test notices survives and is
printed. Finished mutants are kept in the JSON; a second start goes on with the missing ones. Slow
tests do not run: what only they notice survives.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.mutations import Mutation, mutations_of
from benchmarks.reached import Chosen, Reach, choose
from benchmarks.trials import Entry, FinishedRows, make_parser

COPIED = ("zoo", "datamodules", "benchmarks", "configs", "tests", "README.md", "setup.cfg")
IMPORTED_ONCE = ("torch", "lightning.pytorch", "transformers", "torchmetrics", "datasets", "peft")


def draw(folder: Path, count: int, seed: int) -> list[Mutation]:
    """Return `count` mutations of a folder's files, or of one file, drawn without replacement."""
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]
    mutations = [mutation for file in files for mutation in mutations_of(file)]
    return random.Random(seed).sample(mutations, min(count, len(mutations)))


def copy_tree(target: Path) -> None:
    """Copy what the tests need to `target`."""
    for name in (*COPIED, "pyproject.toml"):
        if Path(name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "results")
            shutil.copytree(name, target / name, ignore=ignored)
        elif Path(name).exists():
            shutil.copy(name, target / name)


def run_tests(tree: Path, tests: list[str], plugin: Reach | Chosen, seconds: float) -> bool:
    """Run tests of a tree in a fork; return whether all passed within the time."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os._exit(_test(tree, tests, plugin))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) in (0, 5)  # 5: no test is left to run
        time.sleep(0.1)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _test(tree: Path, tests: list[str], plugin: Reach | Chosen) -> int:
    """Run pytest in this process, silently, on the modules of `tree`."""
    import pytest

    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    for name in [n for n in sys.modules if n.split(".")[0] in ("zoo", "datamodules", "benchmarks")]:
        del sys.modules[name]
    sys.path[:] = [str(tree), *(p for p in sys.path if p not in ("", str(Path.cwd())))]
    if isinstance(plugin, Chosen):  # bytecode of the first run is read, of a mutant never kept
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    options = ["-x", "-q", "-n0", "-p", "no:cacheprovider"]
    return int(pytest.main([*options, *tests], plugins=[plugin]))


def reach(folder: Path, tree: Path, tests: list[str]) -> dict[str, Any]:
    """Run all tests without a mutation; return seconds and lines of each."""
    report = tree / "reached.json"
    if not run_tests(tree, tests, Reach(tree / folder, report), seconds=3600):
        sys.exit("the tests fail without any mutation")
    return dict(json.loads(report.read_text("utf-8")))


def run(mutation: Mutation, tree: Path, tests: dict[str, Any]) -> Entry:
    """Test one mutant; the copied file is restored."""
    start = time.monotonic()
    file = tree / mutation.file
    chosen = choose(tests, file, mutation.line)
    files = sorted({name.split("::")[0] for name in chosen})
    source, stat = file.read_text("utf-8"), file.stat()
    file.write_text(mutation.apply(source), "utf-8")
    try:
        survived = run_tests(tree, files, Chosen(chosen), 60 + 4 * sum(chosen.values()))
    finally:
        file.write_text(source, "utf-8")
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if survived:
        print(f"SURVIVED {mutation}", flush=True)
    fields = {"mutant": str(mutation), "survived": survived, "tests": len(chosen)}
    return {**fields, "seconds": round(time.monotonic() - start, 1)}


def main() -> None:
    """Run the missing mutants of a draw and print the score."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, help="a folder of the tree, or one file")
    parser.add_argument("--tests", nargs="+", required=True, help="arguments for pytest")
    parser.add_argument("--count", type=int, default=40, help="mutants to draw")
    args = parser.parse_args()
    rows = FinishedRows(args.json, "mutant")
    drawn = {str(m): m for m in draw(args.folder, args.count, args.seeds[0])}
    missing = [] if args.table else rows.missing((name,) for name in drawn)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch)
        copy_tree(tree)
        for name in IMPORTED_ONCE if missing else ():
            importlib.import_module(name)
        tests = reach(args.folder, tree, args.tests) if missing else {}
        rows.run(missing, lambda name: run(drawn[name], tree, tests))
    entries = [entry for entry in rows.entries if entry["mutant"] in drawn]
    survivors = [entry["mutant"] for entry in entries if entry["survived"]]
    print(*(f"survived: {mutant}" for mutant in survivors), sep="\n")
    print(f"{len(entries) - len(survivors)} of {len(entries)} caught")


if __name__ == "__main__":
    main()
