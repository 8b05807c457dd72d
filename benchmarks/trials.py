"""Trials on real data: rows of a table, each trained and tested once per seed.

A script says which jobs there are, how one is run and how the table is printed. What all of them
share is here: options, the JSON of finished rows, resuming it, Markdown and intervals.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from scipy.stats import t as student_t

Entry = dict[str, Any]
Job = tuple[Any, ...]


def make_parser(
    doc: str | None, *, rows: Iterable[str] | None = None, seeds: Sequence[int] = (0,)
) -> argparse.ArgumentParser:
    """Return a parser with the options of every trial.

    Args:
        doc: The script's docstring; its first line is the description.
        rows: Names that `--rows` takes, all of them by default; None leaves the option out.
        seeds: Default of `--seeds`.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    parser.add_argument("--json", type=Path, required=True, help="finished rows; it is resumed")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--table", action="store_true", help="only print what is there")
    if rows is not None:
        rows = list(rows)
        parser.add_argument("--rows", nargs="+", choices=rows, default=rows, metavar="ROW")
    return parser


def data_path(name: str) -> str:
    """Return a folder in `$ZOO_DATA`; where that is not set the run ends and says so."""
    if "ZOO_DATA" not in os.environ:
        sys.exit(f"set ZOO_DATA to the folder that holds {name}/")
    return f"{os.environ['ZOO_DATA']}/{name}"


class FinishedRows:
    """The finished rows of a JSON file.

    Args:
        path: The file; it need not be there.
        names: Fields of an entry that say which job it was.
    """

    def __init__(self, path: Path, *names: str) -> None:
        self.path, self.names = path, names
        self.entries: list[Entry] = json.loads(path.read_text("utf-8")) if path.is_file() else []

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the jobs, values of `names`, that the file does not hold."""
        done = {self.job_of(entry) for entry in self.entries}
        return [job for job in jobs if job not in done]

    def job_of(self, entry: Entry) -> Job:
        """Return which job an entry was."""
        return tuple(entry[name] for name in self.names)

    def run(self, jobs: Iterable[Job], run: Callable[..., Entry]) -> None:
        """Run the missing jobs in order, `run(*job)` each; keep an entry as soon as it is there."""
        for job in self.missing(jobs):
            self.add(run(*job))

    def add(self, entry: Entry) -> None:
        """Add an entry, with torch's version and the date; the file is replaced as a whole."""
        self.entries.append({**entry, "torch": torch.__version__, "date": str(date.today())})
        write_entries(self.path, self.entries)
        print(*self.job_of(entry), entry.get("seconds", ""), flush=True)


def write_entries(path: Path, entries: Sequence[Entry]) -> None:
    """Write entries, a line each; the file is replaced as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(kept, ensure_ascii=False) for kept in entries)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(f"[\n{lines}\n]\n", "utf-8")
    scratch.replace(path)


def of_row(entries: Iterable[Entry], **wanted: Any) -> list[Entry]:
    """Return the entries whose fields have the wanted values."""
    return [e for e in entries if all(e[name] == value for name, value in wanted.items())]


def by_row(
    entries: Sequence[Entry], rows: Iterable[str], field: str = "row"
) -> list[tuple[str, list[Entry]]]:
    """Return each row that has entries, with them; `field` names the row in an entry."""
    row_entries = [(row, of_row(entries, **{field: row})) for row in rows]
    return [(row, mine) for row, mine in row_entries if mine]


def mean_metric(entries: Sequence[Entry], name: str) -> float:
    """Return the mean of a metric over entries; where it is missing it counts as 0."""
    return statistics.mean(entry["metrics"].get(name, 0.0) for entry in entries)


def markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (titles, *rows)]
    return [lines[0], "|---" * len(titles) + "|", *lines[1:]]


def percent(*shares: float) -> list[str]:
    """Return shares in percent, one decimal each."""
    return [f"{100 * share:.1f}" for share in shares]


def percent_of(share: float, total: float) -> str:
    """Return a share in percent with its 95 % Wilson interval for `total` trials."""
    middle, low, high = percent(share, *wilson(share, total))
    return f"{middle} ({low}-{high})"


def wilson(share: float, total: float, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share out of `total` trials."""
    middle = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def seed_margin(values: Sequence[float]) -> float:
    """Return half the 95 % t interval of a mean over seeds; not a number for one seed."""
    if len(values) < 2:
        return math.nan
    t = float(student_t.ppf(0.975, len(values) - 1))
    return t * statistics.stdev(values) / math.sqrt(len(values))
