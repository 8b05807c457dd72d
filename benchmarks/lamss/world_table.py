"""Tables of LaMsS in a made-up world: metrics, accuracy and doubt by kind, levels learned."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks import trials
from benchmarks.lamss.table import METRICS

LEVELS = (
    *("level_targets", "answers", "training level_loss", "level_loss"),
    *("training AUC, shown", "AUC, shown", "AUC of the levels shown"),
)


def table(entries: Sequence[trials.Entry]) -> list[str]:
    """Return Markdown: metrics in percent, by kind, and the levels; means over seeds."""
    mine = trials.by_row(entries, dict.fromkeys(entry["row"] for entry in entries))
    if not mine:
        return []
    rows = [
        [row, str(len(ours)), *(mean_margin([e["metrics"][m] for e in ours]) for m in METRICS)]
        for row, ours in mine
    ]
    kinds = list(entries[0]["by_kind"])
    by_kind = [[row, *(accuracy_and_doubt(ours, kind) for kind in kinds)] for row, ours in mine]
    learned = [
        [row, *(f"{statistics.mean(e[name] for e in ours):.4g}" for name in LEVELS)]
        for row, ours in mine
        if LEVELS[0] in ours[0] and row == ours[0]["run"]
    ]
    lines = trials.markdown(["row", "seeds", *METRICS], rows)
    lines += ["", *trials.markdown(["row, accuracy / mean U", *kinds], by_kind)]
    return lines + ["", *trials.markdown(["row", *LEVELS], learned)] if learned else lines


def mean_margin(shares: Sequence[float]) -> str:
    """Return the mean of shares in percent and half its 95 % t interval over seeds."""
    return f"{100 * statistics.mean(shares):.1f} +-{100 * trials.seed_margin(shares):.1f}"


def accuracy_and_doubt(entries: Sequence[trials.Entry], kind: str) -> str:
    """Return the accuracy in percent and the mean doubt of a kind of questions."""
    right, doubt = (statistics.mean(e["by_kind"][kind][i] for e in entries) for i in (0, 1))
    return f"{100 * right:.0f} / {doubt:.2f}"
