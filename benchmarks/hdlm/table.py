"""The table of `quality.py`."""

from __future__ import annotations

import math
import statistics
from typing import Any

from benchmarks.methanol.quality import wilson


def table(results: list[dict[str, Any]], sets: list[str], rows: list[str]) -> list[str]:
    """Return Markdown: per data set, means over seeds with both intervals of joint accuracy.

    Args:
        results: Entries of the JSON.
        sets: Data sets, in order.
        rows: Rows, in order.
    """
    lines = []
    for name in sets:
        lines += [
            "",
            f"{name}:",
            "",
            "| row | seeds | joint accuracy (95 % over texts; over seeds) | micro-F1 | macro-F1 | "
            "level 1 | level 2 | failed | training tokens | blocks x tokens a reply | of them "
            "one by one |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            entries = [e for e in results if e["row"] == row and e["set"] == name]
            if entries:
                lines.append(line(row, entries))
    return lines[1:]


def line(row: str, entries: list[dict[str, Any]]) -> str:
    """Return a row of the table."""

    def mean(key: str) -> float:
        return statistics.mean(entry["metrics"][key] for entry in entries)

    joint = [100 * entry["metrics"]["joint_accuracy"] for entry in entries]
    low, high = wilson(mean("joint_accuracy"), sum(entry["texts"]["test"] for entry in entries))
    over = ""
    if len(joint) > 1:
        t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}.get(len(joint), 2.0)
        over = f"; +-{t * statistics.stdev(joint) / math.sqrt(len(joint)):.1f}"
    shown = [100 * mean(key) for key in ("joint_micro_f1", "joint_macro_f1")]
    shown += [100 * mean(key) for key in ("level_1_accuracy", "level_2_accuracy", "failed")]
    costs = [statistics.mean(e["cost"][key] for e in entries) for key in ("blocks", "sequential")]
    return (
        f"| {row} | {len(joint)} | {statistics.mean(joint):.1f} ({100 * low:.1f}-{100 * high:.1f}"
        f"{over}) | {' | '.join(f'{value:.1f}' for value in shown)} | "
        f"{statistics.mean(e['tokens'] for e in entries):.0f} | {costs[0]:.0f} | {costs[1]:.0f} |"
    )
