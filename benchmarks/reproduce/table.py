"""Print verdicts: a method's whole table, and the README's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.reproduce.claims import RUNGS, Claim, Evidence
from benchmarks.reproduce.verdict import Verdict
from benchmarks.trials import markdown
from zoo.errors import InputError

START, END = "<!-- results: python -m benchmarks.reproduce all --readme -->", "<!-- end -->"
TITLES = ("claim", "rung", "measured", "could see", "p (Holm)", "verdict", "command", "date")

Rows = Sequence[tuple[Claim, Verdict]]


def claims_table(known: Evidence, rows: Rows) -> list[str]:
    """Return the table of a method's claims, in Markdown."""
    return markdown(TITLES, [_cells(known, claim, verdict) for claim, verdict in rows])


def readme_with(text: str, found: Sequence[tuple[Evidence, Rows]]) -> str:
    """Return the README with its table of results written anew.

    Raises:
        InputError: The README lacks the two marks between which the table stands.
    """
    if text.count(START) != 1 or END not in text.partition(START)[2]:
        raise InputError(f"README.md: the lines {START!r} and {END!r} are not there once each")
    before, _, rest = text.partition(START)
    lines = markdown(
        ("method", *(title for title in TITLES if title not in ("rung", "could see", "p (Holm)"))),
        [
            (known.method, *_short(known, claim, verdict))
            for known, rows in found
            for claim, verdict in rows
            if claim.headline
        ],
    )
    return "\n".join([before + START, "", *lines, "", END]) + rest.partition(END)[2]


def _cells(known: Evidence, claim: Claim, verdict: Verdict) -> list[str]:
    trial = known.trials.get(claim.trial)
    return [
        f"{claim.text} [{claim.source}]",
        f"{trial.rung}: {RUNGS[trial.rung]}" if trial else "",
        measured(claim, verdict),
        "" if np.isnan(verdict.smallest) else f"{verdict.smallest:.2g}",
        "" if np.isnan(verdict.p) else f"{verdict.p:.2g}",
        verdict.words,
        f"`{trial.command.format(json=trial.json)}`" if trial else "",
        days(verdict),
    ]


def _short(known: Evidence, claim: Claim, verdict: Verdict) -> list[str]:
    trial = known.trials.get(claim.trial)
    command = (
        f"`python -m benchmarks.reproduce {known.method} --budget {trial.budget}`" if trial else ""
    )
    return [claim.text, measured(claim, verdict), verdict.words, command, days(verdict)]


def measured(claim: Claim, verdict: Verdict) -> str:
    """Return both scores, the difference with its interval, and what was counted."""
    if not verdict.seeds:
        return ""
    other = claim.than if isinstance(claim.than, str) else "the trivial rule"
    line = f"{claim.row} {_number(verdict.row)}, {other} {_number(verdict.than)}"
    line += f": {verdict.difference:+.3g}"
    if not np.isnan(verdict.low):
        line += f" ({verdict.low:+.3g} to {verdict.high:+.3g})"
    items = f", {verdict.items} items" if verdict.items else ""
    return f"{line}; {verdict.seeds} seed{'s' * (verdict.seeds > 1)}{items}"


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def days(verdict: Verdict) -> str:
    """Return the date, or first and last."""
    return " to ".join(dict.fromkeys(verdict.dates))
