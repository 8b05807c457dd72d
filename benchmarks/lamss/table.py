"""Tables of the LaMsS benchmark: metrics with intervals, accuracy and skepticism by kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from zoo.methods.lamss.metrics import accuracy_at_rate, auc, average_precision, calibration_error

ROWS: dict[str, tuple[str, str]] = {  # run, score
    "LaMsS": ("LaMsS", "response"),
    "LaMsS, mean of the tokens": ("LaMsS", "tokens"),
    "LaMsS, mean of both": ("LaMsS", "both"),
    "LaMsS, levels in the query": ("LaMsS, levels in the query", "response"),
    "the same, mean of the tokens": ("LaMsS, levels in the query", "tokens"),
    "LaMsS without CPT": ("LaMsS without CPT", "response"),
    "LaMsS without interleaving": ("LaMsS without interleaving", "response"),
    "LaMsS, N = 2": ("LaMsS, N = 2", "response"),
    "SFT, 1 - p(A given Q)": ("SFT", "sequence"),
    "SFT, token entropy": ("SFT", "entropy"),
    "SFT, P(True)": ("SFT", "p_true"),
    "SFT, verbalised": ("SFT", "verbalised"),
    "SFT, sure or unsure": ("sure", "sure"),
}
Metric = Callable[[Sequence[float], Sequence[bool]], float]
METRICS: dict[str, Metric] = {
    "AUC": auc,
    "AP": average_precision,
    "accuracy at 25 %": lambda u, right: accuracy_at_rate(u, right, 0.25),
    "at 50 %": lambda u, right: accuracy_at_rate(u, right, 0.5),
    "at 75 %": lambda u, right: accuracy_at_rate(u, right, 0.75),
    "of all": lambda u, right: accuracy_at_rate(u, right, 1.0),
    "ECE": calibration_error,
}


def interval(
    entries: Sequence[dict[str, Any]], score: str, metric: Metric, draws: int
) -> tuple[float, float, float]:
    """Return a metric, mean over seeds, and its 95 % bootstrap interval over questions."""
    names = sorted(entries[0]["questions"])

    def value(chosen: Sequence[str]) -> float:
        values = []
        for entry in entries:
            found = [entry["questions"][name] for name in chosen]
            doubts = [one["skepticism"][score] for one in found]
            values.append(metric(doubts, [one["right"] for one in found]))
        return sum(values) / len(values)

    rng = random.Random(0)
    sampled = sorted(value(rng.choices(names, k=len(names))) for _ in range(draws))
    low, high = sampled[int(0.025 * draws)], sampled[int(0.975 * draws)]
    return value(names), low, high


def table(results: Sequence[dict[str, Any]], draws: int = 1000) -> list[str]:
    """Return Markdown: every metric in percent with its interval; accuracy and mean U by kind."""
    names = list(METRICS)
    lines = ["| row | seeds | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    below: list[str] = []
    for row, (run, score) in ROWS.items():
        entries = [entry for entry in results if entry["run"] == run]
        if not entries:
            continue
        cells = []
        for metric in METRICS.values():
            middle, low, high = (100 * value for value in interval(entries, score, metric, draws))
            cells.append(f"{middle:.1f} ({low:.1f}-{high:.1f})")
        lines.append(f"| {row} | {len(entries)} | {' | '.join(cells)} |")
        found = [one for entry in entries for one in entry["questions"].values()]
        kinds = sorted({one["kind"] for one in found if one["kind"]}, key=kind_order)
        if kinds and not below:
            below = ["", "| row, accuracy / mean U | " + " | ".join(kinds) + " |"]
            below.append("|---" * (len(kinds) + 1) + "|")
        if kinds:
            cells = [by_kind([one for one in found if one["kind"] == k], score) for k in kinds]
            below.append(f"| {row} | {' | '.join(cells)} |")
    return [*lines, *below]


def kind_order(kind: str) -> tuple[bool, int, str]:
    """Sort the frequency groups by number, the other kinds after them."""
    return not kind.startswith("seen"), len(kind), kind


def by_kind(found: Sequence[dict[str, Any]], score: str) -> str:
    """Return accuracy in percent and mean skepticism."""
    right = 100 * sum(one["right"] for one in found) / len(found)
    return f"{right:.0f} / {sum(one['skepticism'][score] for one in found) / len(found):.2f}"
