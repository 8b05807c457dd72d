"""Accuracy of short answers, in total and per kind of question."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

from zoo.metrics.records import RecordMetric

ARTICLE = re.compile(r"\b(?:an?|the)[^\S\n]+(?=[^\w\n]*\w)")
"""An article: one of these words before another word of its line. "Vitamin A" has none."""

SEPARATOR = re.compile(r"(?!(?<!\w)-\.?\d|(?<![^\W\d])\.\d)\W")
"""What is no letter or digit, but for the sign and the point of a number."""


def normalize(text: str) -> str:
    """Return a text in lower case without punctuation, articles and extra space.

    The minus and the point of a number stay, and so does a text that is nothing but signs.

    Example:
        >>> normalize("The basket. ")
        'basket'
        >>> normalize("green_suitcase")
        'green suitcase'
        >>> normalize("-3."), normalize("A."), normalize("<")
        ('-3', 'a', '<')
    """
    plain = text.lower().replace("_", " ").replace("\u2212", "-")  # the true minus
    words = SEPARATOR.sub(" ", ARTICLE.sub("", plain)).split()
    return " ".join(words or plain.split())


def exact(answer: str, gold: str) -> bool:
    """Return whether two answers are equal after `normalize`; an empty answer is never right."""
    return normalize(answer) == normalize(gold) != ""


def mentions(answer: str, gold: str) -> bool:
    """Return whether the answer contains the gold answer as whole words.

    Lenient, for models that were never taught the answer's form.

    Example:
        >>> mentions("She will look in the green suitcase.", "green_suitcase")
        True
        >>> mentions("The answer is A", "A"), mentions("A box", "A"), mentions("", "A")
        (True, False, False)
    """
    return gold.strip() != "" and f" {normalize(gold)} " in f" {normalize(answer)} "


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
        name: Of the score.
        options: Of `torchmetrics.Metric`.

    Example:
        >>> score = AnswerAccuracy()
        >>> score(["a box", "bag"], ["box", "box"], [["memory"], ["reality"]])
        {'accuracy': 0.5, 'accuracy_memory': 1.0, 'accuracy_reality': 0.0}
    """

    def __init__(
        self,
        match: Callable[[str, str], bool] = exact,
        name: str = "accuracy",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.match, self.name = match, name

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
        """Return `NAME` and `NAME_KIND` for each kind; nothing where there are no answers."""
        right: dict[str, list[bool]] = defaultdict(list)
        for correct, kinds in self.kept():
            for kind in {"", *kinds}:
                right[f"{self.name}_{kind}" if kind else self.name].append(correct)
        return {name: sum(flags) / len(flags) for name, flags in sorted(right.items())}
