"""Decide a claim from finished rows: paired differences, their interval, the power, a verdict.

Rows are compared on what they share. Over seeds: a row's score minus the other's, seed by seed.
Over items: the same difference for each test item, averaged over the shared seeds. Both have a
t interval, and the wider one is taken, since both the seed and the choice of items are chance; the
difference and both scores are those that this interval is of. Over items all items, or groups of
them, count alike, where a row's own score may count an item by its turns or tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.reproduce.claims import Claim
from zoo.errors import InputError

FEWEST_SEEDS, FEWEST_ITEMS = 3, 30  # below these an interval is not worth its name
LEVEL, POWER = 0.95, 0.8

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
        row: Mean score of the claim's row over the shared seeds, or over the shared items or groups
            of them, in the claim's unit; nan where it was not run.
        than: That of the other row, or the number.
        difference: row - than.
        low, high: Ends of the 95 % interval; nan where too little was run.
        smallest: Smallest true difference that would have been seen with probability 0.8.
        p: Two-sided p value; Holm's correction replaces it.
        seeds: Shared seeds.
        items: Shared test items, or groups of them; 0 where the trial keeps none.
        dates: First and last day of the entries.
        words: `direction shown`, `opposite`, `cannot tell below x` or why nothing is told; with
            fewer than three seeds a decision holds for these runs alone and says `(one run)`.
    """

    row: float = np.nan
    than: float = np.nan
    difference: float = np.nan
    low: float = np.nan
    high: float = np.nan
    smallest: float = np.nan
    p: float = np.nan
    seeds: int = 0
    items: int = 0
    dates: tuple[str, ...] = ()
    words: str = ""


def decide(claims: Sequence[tuple[Claim, Sequence[Entry]]]) -> list[Verdict]:
    """Return the verdicts of the claims that one table holds, Holm-corrected among themselves.

    Args:
        claims: Each claim with the entries of its trial.
    """
    measured = [measure(claim, entries) for claim, entries in claims]
    corrected = holm([each.p for each in measured])
    return [
        replace(each, p=p, words=_words(claim, replace(each, p=p)))
        for (claim, _), each, p in zip(claims, measured, corrected, strict=True)
    ]


def measure(claim: Claim, entries: Sequence[Entry]) -> Verdict:
    """Return the paired difference of a claim's two rows; its words and Holm are not done yet."""
    if claim.not_here or not claim.trial:
        return Verdict()
    entries = [e for e in entries if all(at(e, k) == v for k, v in claim.where.items())]
    ours = by_seed(claim, entries, claim.row)
    theirs = by_seed(claim, entries, claim.than) if isinstance(claim.than, str) else ours
    if claim.than_once and theirs:
        theirs = dict.fromkeys(ours, theirs[min(theirs, key=str)])
    seeds = sorted(ours.keys() & theirs.keys(), key=str)
    if not seeds:
        return Verdict()
    pairs = [(ours[seed], theirs[seed]) for seed in seeds]
    unit = 100 if claim.percent else 1
    values = unit * np.array([scores_of(claim, *pair) for pair in pairs]).T
    spreads = [(*interval(values[0] - values[1]), values)] if len(seeds) >= FEWEST_SEEDS else []
    items = unit * item_scores_of(claim, pairs)
    if items.shape[1] >= FEWEST_ITEMS:
        spreads.append((*interval(items[0] - items[1]), items))
    found = items if items.shape[1] else values
    unknown = (np.nan, np.nan, np.nan, np.nan, found)
    half, _, smallest, p, found = max(spreads, key=lambda spread: spread[0], default=unknown)
    days = sorted({str(entry["date"]) for pair in pairs for entry in pair})
    row, than = found.mean(axis=1)
    difference = float(row - than)
    return Verdict(
        row=float(row),
        than=float(than),
        difference=difference,
        low=difference - half,
        high=difference + half,
        smallest=smallest,
        p=p,
        seeds=len(seeds),
        items=items.shape[1],
        dates=(days[0], days[-1]),
    )


def by_seed(claim: Claim, entries: Iterable[Entry], row: str) -> dict[Any, Entry]:
    """Return the entries of a row by seed."""
    return {e.get("seed", 0): e for e in entries if at(e, claim.row_field) == row}


def scores_of(claim: Claim, ours: Entry, theirs: Entry) -> tuple[float, float]:
    """Return the claim's two scores of a seed."""
    other = at(theirs, claim.value) if isinstance(claim.than, str) else claim.than
    return float(at(ours, claim.value)), float(other)


def item_scores_of(claim: Claim, pairs: Sequence[tuple[Entry, Entry]]) -> np.ndarray:
    """Return the mean scores of both rows for each group of shared test items, `(2, groups)`.

    Seeds that share none are folds of a cross-validation: each gives the items of its own.
    """
    if not claim.items:
        return np.zeros((2, 0))
    scores = [[item_scores(entry, claim.items) for entry in pair] for pair in pairs]
    fixed = None if isinstance(claim.than, str) else float(claim.than)
    tested = [a.keys() & b.keys() for a, b in scores]
    shared = set.intersection(*map(set, tested))
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (a, b), own in zip(scores, tested, strict=True):
        for name in sorted(shared or own):
            group = name.partition(claim.cluster)[0] if claim.cluster else name
            groups[group].append((a[name], b[name] if fixed is None else fixed))
    return np.array([np.mean(both, axis=0) for both in groups.values()]).reshape(-1, 2).T


def item_scores(entry: Entry, place: str) -> Mapping[str, float]:
    """Return item scores by name; a list's items are named by their place."""
    first, equal, second = place.partition(" == ")
    scores = at(entry, first)
    if equal:
        scores = [float(a == b) for a, b in zip(scores, at(entry, second), strict=True)]
    if isinstance(scores, Mapping):
        return scores
    return {f"{number:08d}": score for number, score in enumerate(scores)}


def interval(differences: np.ndarray) -> tuple[float, float, float, float]:
    """Return half the 95 % t interval, the mean, the smallest difference seen with power 0.8, p."""
    degrees, mean = len(differences) - 1, float(np.mean(differences))
    error = float(np.std(differences, ddof=1)) / np.sqrt(len(differences))
    reach = stats.t.ppf(0.5 + LEVEL / 2, degrees)
    if error == 0:  # every pair differs by the same
        return 0.0, mean, 0.0, float(mean == 0)
    p = 2 * stats.t.sf(abs(mean) / error, degrees)
    smallest = (reach + stats.t.ppf(POWER, degrees)) * error
    return float(reach * error), mean, float(smallest), float(p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down corrected p values; those that are no numbers do not count."""
    order = sorted(
        (i for i, p in enumerate(p_values) if not np.isnan(p)), key=lambda i: p_values[i]
    )
    corrected, largest = list(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def at(entry: Entry, place: str) -> Any:
    """Return what stands at a place such as `metrics.test/accuracy`.

    Raises:
        InputError: Nothing stands there.
    """
    value: Any = entry
    for name in place.split("."):
        if name not in value:
            raise InputError(f"no {place!r} in an entry of {entry.get('row')!r}")
        value = value[name]
    return value


def _words(claim: Claim, verdict: Verdict) -> str:
    if claim.not_here:
        return f"not testable here: {claim.not_here}"
    if not verdict.seeds:
        return "not run yet"
    if np.isnan(verdict.p):
        return f"cannot tell: {verdict.seeds} seed{'s' * (verdict.seeds > 1)}"
    one = "" if verdict.seeds >= FEWEST_SEEDS else " (one run)"
    if claim.within is not None and max(-verdict.low, verdict.high) < claim.within:
        return "direction shown" + one
    if verdict.p < 1 - LEVEL:
        wanted = verdict.difference < 0 if claim.smaller_is_better else verdict.difference > 0
        return ("direction shown" if wanted and claim.within is None else "opposite") + one
    if verdict.smallest == 0:
        return "cannot tell: all differ by 0"
    return f"cannot tell below {verdict.smallest:.2g}"
