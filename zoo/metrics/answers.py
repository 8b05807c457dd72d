"""Accuracy of short answers, in total and per kind of question."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

from zoo.metrics.records import RecordMetric


def normalize(text: str) -> str:
    """Return a text in lower case without punctuation, articles and extra space.

    Example:
        >>> normalize("The basket. ")
        'basket'
        >>> normalize("green_suitcase")
        'green suitcase'
    """
    words = re.sub(r"[\W_]+", " ", text.lower()).split()
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def exact(answer: str, gold: str) -> bool:
    """Return whether two answers are equal after `normalize`."""
    return normalize(answer) == normalize(gold)


def mentions(answer: str, gold: str) -> bool:
    """Return whether the answer contains the gold answer as whole words.

    Lenient, for models that were never taught the answer's form.

    Example:
        >>> mentions("She will look in the green suitcase.", "green_suitcase")
        True
    """
    return f" {normalize(gold)} " in f" {normalize(answer)} "


def contains(answer: str, gold: str) -> bool:
    """Return whether the gold answer stands in the answer, anywhere, in either case.

    The default of MeGan's released evaluation. It takes "not related" for "related".

    Example:
        >>> contains("It is Related.", "related"), contains("No.", "related")
        (True, False)
    """
    return gold.strip().lower() in answer.lower()


class AnswerAccuracy(RecordMetric):
    """Share of right answers, in total and per kind of question, as fractions.

    torchmetrics' accuracies compare class numbers; here texts are compared, by any rule.

    Args:
        match: Says whether an answer is right: `exact`, `mentions`, `contains` or another one.
        options: Of `torchmetrics.Metric`.

    Example:
        >>> score = AnswerAccuracy()
        >>> score(["a box", "bag"], ["box", "box"], [["memory"], ["reality"]])
        {'accuracy': 0.5, 'accuracy_memory': 1.0, 'accuracy_reality': 0.0}
    """

    def __init__(self, match: Callable[[str, str], bool] = exact, **options: Any) -> None:
        super().__init__(**options)
        self.match = match

    def update(
        self,
        answers: Sequence[str],
        gold: Sequence[str],
        kinds: Iterable[Iterable[str]] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Count answers.

        Args:
            answers: What was answered.
            gold: The right answers.
            kinds: The kinds of each question, empty names left out; None for no kinds.
            ids: Names of the questions; one that comes twice counts once.
        """
        sorts = repeat((), len(gold)) if kinds is None else kinds
        pairs = zip(answers, gold, sorts, strict=True)
        self.keep([[self.match(a, g), [k for k in kind if k]] for a, g, kind in pairs], ids)

    def compute(self) -> dict[str, float]:
        """Return `accuracy` and `accuracy_KIND`; nothing where there are no answers."""
        right: dict[str, list[bool]] = defaultdict(list)
        for correct, kinds in self.kept():
            for kind in {"", *kinds}:
                right[f"accuracy_{kind}" if kind else "accuracy"].append(correct)
        return {name: sum(flags) / len(flags) for name, flags in sorted(right.items())}


class KindAccuracy:
    """Counts of right answers, in total (under the empty name) and per kind of question.

    Example:
        >>> scores = KindAccuracy()
        >>> scores.add("memory", True); scores.add("reality", False)
        >>> scores.result()
        {'accuracy': 0.5, 'accuracy_memory': 1.0, 'accuracy_reality': 0.0}
    """

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def add(self, kind: str, right: bool, *more: str) -> None:
        """Count one answer, under each kind that it has."""
        for name in {"", kind, *more}:
            self.counts[name][0] += int(right)
            self.counts[name][1] += 1

    def merge(self, counts: dict[str, list[int]]) -> None:
        """Add another process's counts."""
        for kind, (right, total) in counts.items():
            self.counts[kind][0] += right
            self.counts[kind][1] += total

    def result(self) -> dict[str, float]:
        """Return accuracy over everything and per named kind, as fractions."""
        rates = {kind: right / n for kind, (right, n) in sorted(self.counts.items())}
        return {f"accuracy_{kind}" if kind else "accuracy": rate for kind, rate in rates.items()}
