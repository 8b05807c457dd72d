"""Tables of the LaMsS benchmark: metrics with intervals, accuracy and skepticism by kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from benchmarks.trials import Entry, markdown, of_row, percent
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
    entries: Sequence[Entry], score: str, metric: Metric, draws: int
) -> tuple[float, float, float]:
    """Return a metric, mean over seeds, and its 95 % bootstrap interval over questions."""
    names = sorted(entries[0]["questions"])

    def value(chosen: Sequence[str]) -> float:
        values = []
        for entry in entries:
            answers = [entry["questions"][name] for name in chosen]
            doubts = [answer["skepticism"][score] for answer in answers]
            values.append(metric(doubts, [answer["right"] for answer in answers]))
        return sum(values) / len(values)

    rng = random.Random(0)
    sampled = sorted(value(rng.choices(names, k=len(names))) for _ in range(draws))
    low, high = sampled[int(0.025 * draws)], sampled[int(0.975 * draws)]
    return value(names), low, high


def table(results: Sequence[Entry], draws: int = 1000) -> list[str]:
    """Return Markdown: every metric in percent with its interval; accuracy and mean U by kind."""
    rows, by_kind = [], []
    kinds: list[str] = []
    for row, (run, score) in ROWS.items():
        entries = of_row(results, run=run)
        if not entries:
            continue
        intervals = [interval(entries, score, metric, draws) for metric in METRICS.values()]
        cells = ["{} ({}-{})".format(*percent(*values)) for values in intervals]
        rows.append([row, str(len(entries)), *cells])
        answers = [answer for entry in entries for answer in entry["questions"].values()]
        kinds = sorted({answer["kind"] for answer in answers if answer["kind"]}, key=kind_order)
        parts = ([answer for answer in answers if answer["kind"] == kind] for kind in kinds)
        by_kind.append([row, *(accuracy_and_doubt(part, score) for part in parts)])
    lines = markdown(["row", "seeds", *METRICS], rows)
    return [*lines, "", *markdown(["row, accuracy / mean U", *kinds], by_kind)] if kinds else lines


def kind_order(kind: str) -> tuple[bool, int, str]:
    """Sort the frequency groups by number, the other kinds after them."""
    return not kind.startswith("seen"), len(kind), kind


def accuracy_and_doubt(answers: Sequence[Entry], score: str) -> str:
    """Return accuracy in percent and mean skepticism."""
    right = 100 * sum(answer["right"] for answer in answers) / len(answers)
    doubt = sum(answer["skepticism"][score] for answer in answers) / len(answers)
    return f"{right:.0f} / {doubt:.2f}"
