"""What another seed would change: differences from MuPaS by seed, with their t intervals.

A difference is a mean over turns or tokens, or one in which every scene counts alike. A row without
training has one entry, which stands beside every seed. `least` looks at who says least in a scene
of three speakers or more, by how many tokens that is.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks import trials
from benchmarks.mupas.scores import mean
from benchmarks.reproduce.verdict import interval

SCORES = ("speaker_accuracy_3plus", "words", "words_least")
PARTS = 3
TITLES = ("row", "score", "by seed", "over seeds", "every scene alike")

Pairs = list[tuple[trials.Entry, trials.Entry]]
"""Entries of MuPaS and of another row, seed by seed."""


def by_seed(
    ours: Sequence[trials.Entry], rows: Sequence[tuple[str, list[trials.Entry]]]
) -> list[str]:
    """Return a Markdown table of MuPaS minus every row that has two seeds with it, or no seeds."""
    cells = []
    for row, theirs in rows:
        pairs = shared(ours, theirs)
        for score in SCORES if len(pairs) > 1 else ():
            if all(score in entry["items"] for pair in pairs for entry in pair):
                cells.append([row, score, *differences(pairs, score)])
    return trials.markdown(TITLES, cells) if cells else []


def shared(ours: Sequence[trials.Entry], theirs: Sequence[trials.Entry]) -> Pairs:
    """Return pairs of the same seed; what was not trained has one entry for all seeds."""
    if not theirs[0]["steps"]:
        return [(mine, theirs[0]) for mine in ours]
    seeds = {entry["seed"]: entry for entry in theirs}
    return [(mine, seeds[mine["seed"]]) for mine in ours if mine["seed"] in seeds]


def differences(pairs: Pairs, score: str) -> list[str]:
    """Return the difference by seed, over seeds, and over seeds with every scene alike."""
    gaps = [gap(pair, score) for pair in pairs]
    weighted = [mean(each, pairs[0][0]["sizes"][score]) for each in gaps]
    alike = [statistics.mean(each.values()) for each in gaps]
    return [", ".join(f"{value:+.3f}" for value in weighted), over(weighted), over(alike)]


def gap(pair: tuple[trials.Entry, trials.Entry], score: str) -> dict[str, float]:
    """Return the difference of a score by scene."""
    ours, theirs = (entry["items"][score] for entry in pair)
    return {name: ours[name] - theirs[name] for name in ours}


def over(values: Sequence[float]) -> str:
    """Return a mean with its 95 % t interval."""
    half, middle, *_ = interval(np.array(values))
    return f"{middle:+.3f} ({middle - half:+.3f} to {middle + half:+.3f})"


def least(ours: Sequence[trials.Entry], theirs: Sequence[trials.Entry]) -> list[str]:
    """Return a Markdown table of the words of who says least, in thirds of the scenes.

    Args:
        ours: Entries of MuPaS.
        theirs: Entries of another row.
    """
    pairs = shared(ours, theirs)
    if len(pairs) < 2:
        return []
    sizes: Mapping[str, int] = pairs[0][0]["sizes"]["words_least"]
    names = sorted(sizes, key=lambda name: (sizes[name], name))
    ends = [round(len(names) * part / PARTS) for part in range(PARTS + 1)]
    cells = []
    for start, end in zip(ends, ends[1:], strict=False):
        part = names[start:end]
        gaps = [gap(pair, "words_least") for pair in pairs]
        values = [mean({name: each[name] for name in part}, sizes) for each in gaps]
        tokens = f"{sizes[part[0]]} to {sizes[part[-1]]}"
        listed = ", ".join(f"{value:+.3f}" for value in values)
        cells.append([tokens, str(len(part)), listed, over(values)])
    return trials.markdown(("tokens of who says least", "scenes", "by seed", "over seeds"), cells)
