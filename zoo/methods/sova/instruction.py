"""An instruction, what reports instruct in a situation, and which instructions are kept.

No model: scores and similarities are given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zoo.methods.sova.reports import Report

Fit = Mapping[str, float]
"""Id of a principle -> how close it is to a situation."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """What to do in a situation.

    Attributes:
        text: The instruction, to the reader as you.
        score: How well it fits the situation, 0 to 100.
        report_id: The report that it comes from.
        principle_ids: The principles behind it; at least one.
        written: Whether a model wrote it; else it is a finding of the report.
    """

    text: str
    score: float
    report_id: str
    principle_ids: tuple[str, ...]
    written: bool = False


def advice(
    scored: Iterable[tuple[Report, float]], fit: Fit, counts: Counter[str]
) -> list[Instruction]:
    """Return what reports instruct in a situation, the best one first; no principle twice.

    Args:
        scored: Reports and their scores.
        fit: How close principles are to the situation; of findings alike the first one is taken.
        counts: `says what a better one says` is added where a report has nothing else to say.
    """
    told, found = set[str](), []
    for report, score in sorted(scored, key=lambda item: (-item[1], item[0].id)):
        left = [f for f in report.findings if f.advises and told.isdisjoint(f.principle_ids)]
        if not left:
            counts["says what a better one says"] += 1
            continue
        best = max(left, key=lambda f: max(fit.get(name, 0.0) for name in f.principle_ids))
        told.update(best.principle_ids)
        found.append(Instruction(best.rule, score, report.id, best.principle_ids))
    return found


def keep(found: Iterable[Instruction], tau: float, top: int) -> list[Instruction]:
    """Return (R2): what scores above `tau`, best first, ties by report; no text twice."""
    above = [item for item in found if item.score > tau]
    best: dict[str, Instruction] = {}
    for item in sorted(above, key=lambda item: (-item.score, item.report_id)):
        best.setdefault(item.text, item)
    return list(best.values())[:top]
