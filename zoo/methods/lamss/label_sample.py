"""Histograms of labels, in which one that says nothing is seen before training (LaMsS)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from zoo.methods.lamss.doubt_labels import Studied

BAR = 20  # characters of all labels together


def histograms(
    texts: Sequence[Studied], questions: Sequence[Studied], num_levels: int, interleave: bool
) -> list[str]:
    """Return a line for each kind of label: how often it has each level.

    Args:
        texts: Labelled texts.
        questions: Labelled questions; the last token of an answer is its stop token.
        num_levels: N.
        interleave: Tokens have levels; if not, an answer as a whole alone.
    """
    golds = [row for studied in questions for row in studied.levels]
    own = [studied.response_levels for studied in questions]
    tokens: dict[str, Iterable[int]] = {
        "text": (j for studied in texts for row in studied.levels for j in row),
        "query": (j for studied in questions for j in studied.query_levels),
        "gold answer": (j for row in golds for j in row[:-1]),
        "own answer": (j for row in own for j in row[:-1]),
        "stop tokens": (row[-1] for row in [*golds, *own]),
    }
    kinds = tokens if interleave else {}
    kinds["whole answer"] = (studied.level for studied in questions)
    lines = []
    for name, levels in kinds.items():
        if counts := Counter(levels):
            total = counts.total()
            shares = [round(BAR * counts[j] / total) for j in range(num_levels)]
            bars = [f"s_{j} {counts[j]:4} {'#' * share}" for j, share in enumerate(shares)]
            alike = "" if len(counts) > 1 else "  (all alike: nothing to learn)"
            lines.append(f"  {name:12}  {'  '.join(bars)}{alike}")
    return lines
