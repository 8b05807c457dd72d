"""Run the trials of a method's claims and print what they decide.

    python -m benchmarks.reproduce methanol                    # what the committed rows say
    python -m benchmarks.reproduce methanol --budget minutes   # run the trials of that size first
    python -m benchmarks.reproduce all --readme                # write README's table of results

A run writes into `runs/reproduce` and goes on where its file ends.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import ROOT
from benchmarks.reproduce.claims import (
    BUDGETS,
    RESULTS,
    Claim,
    Evidence,
    Trial,
    evidence,
    methods,
)
from benchmarks.reproduce.table import claims_table, readme_with
from benchmarks.reproduce.verdict import Entry, Verdict, decide
from zoo.errors import InputError


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reproduce", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("method", help=f"one of: {', '.join(methods())}; or all")
    parser.add_argument("--budget", choices=BUDGETS, help="run the trials of this size")
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="their files")
    parser.add_argument("--readme", action="store_true", help="write the README's table (all)")
    return parser.parse_args(argv)


def verdicts(known: Evidence, folder: Path) -> list[tuple[Claim, Verdict]]:
    """Return the claims of a method with what the files of a folder say of them."""
    pairs = [(claim, _entries(folder, known.trials.get(claim.trial))) for claim in known.claims]
    return list(zip(known.claims, decide(pairs), strict=True))


def _entries(folder: Path, trial: Trial | None) -> list[Entry]:
    if trial is None or not (folder / trial.json).is_file():
        return []
    entries: list[Entry] = json.loads((folder / trial.json).read_text("utf-8"))
    return entries


def run(known: Evidence, budget: str, folder: Path) -> Evidence:
    """Run the trials of a budget one after the other; return the method with their claims alone.

    Raises:
        InputError: No trial has this budget, or one of them failed.
    """
    trials = {name: trial for name, trial in known.trials.items() if trial.budget == budget}
    if not trials:
        have = sorted({trial.budget for trial in known.trials.values()})
        raise InputError(f"{known.method}: no trial of {budget}; there are: {', '.join(have)}")
    folder.mkdir(parents=True, exist_ok=True)
    for trial in trials.values():
        command = [
            sys.executable,
            *shlex.split(trial.command.format(json=folder / trial.json))[1:],
        ]
        print(f"$ {shlex.join(['python', *command[1:]])}", flush=True)
        if code := subprocess.run(command, cwd=ROOT).returncode:
            raise InputError(f"the trial ended with exit status {code}; run it again to go on")
    return Evidence(known.method, trials, tuple(c for c in known.claims if c.trial in trials))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; exit status 2 for bad input."""
    args = parse(argv)
    try:
        chosen = [evidence(name) for name in (methods() if args.method == "all" else [args.method])]
        folder = RESULTS
        if args.budget:
            folder = args.out.resolve()
            chosen = [run(known, args.budget, folder) for known in chosen]
        found = [(known, verdicts(known, folder)) for known in chosen]
        if args.readme:
            readme = ROOT / "README.md"
            readme.write_text(readme_with(readme.read_text("utf-8"), found), "utf-8")
        for known, rows in found:
            print(f"\n{known.method}\n", *claims_table(known, rows), sep="\n")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
