"""Metrics of human or judged ratings, and of graded dialogues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.metrics.records import RecordMetric

AXES = (
    *("fluency", "emotion", "acceptance", "effectiveness", "sensitivity"),
    *("alignment", "satisfaction"),
)
"""Axes of the human evaluation, 1 to 5 each."""

FACETS = ("acceptance", "effectiveness", "sensitivity", "alignment")
"""Facets of satisfaction; alignment only where a reply names its strategy."""


class SupportRatings(RecordMetric):
    """Mean of each axis over independent raters, and `satisfaction`.

    Example:
        >>> SupportRatings()([{"acceptance": 2.0}, {"acceptance": 5.0}])
        {'acceptance': 3.5, 'satisfaction': 3.5}
    """

    def update(
        self, raters: Sequence[Mapping[str, float]], ids: Sequence[str] | None = None
    ) -> None:
        """Add raters.

        Args:
            raters: Axis -> rating, 1 to 5, of each rater.
            ids: Names of the raters; one that comes twice counts once.

        Raises:
            ValueError: An axis is unknown or its rating out of range.
        """
        for ratings in raters:
            for axis, rating in ratings.items():
                if axis not in AXES or not 1 <= rating <= 5:
                    raise ValueError(f"rating {rating} of axis {axis!r}: 1 to 5 of {AXES}")
        self.keep([dict(ratings) for ratings in raters], ids)

    def compute(self) -> dict[str, float]:
        """Return the means by axis; nothing without raters.

        Raises:
            ValueError: An axis is missing for a rater.
        """
        raters = self.kept()
        for ratings in raters:
            if missing := set(raters[0]) ^ set(ratings):
                raise ValueError(f"axis {min(missing)!r}: every rater rates the same axes")
        if not raters:
            return {}
        means = {axis: sum(r[axis] for r in raters) / len(raters) for axis in raters[0]}
        return {**means, "satisfaction": satisfaction(means)}


def satisfaction(ratings: Mapping[str, float]) -> float:
    """Return the direct rating if there is one, else the mean of the facets that were rated.

    Example:
        >>> facets = dict(acceptance=3.0, effectiveness=3.2, sensitivity=3.1, alignment=3.0)
        >>> round(satisfaction(facets), 3)
        3.075

    Raises:
        ValueError: Neither was rated.
    """
    if "satisfaction" in ratings:
        return ratings["satisfaction"]
    rated = [ratings[facet] for facet in FACETS if facet in ratings]
    if not rated:
        raise ValueError(f"no rating of satisfaction or of one of {FACETS}")
    return sum(rated) / len(rated)


def discounted_return(grades: Sequence[float], gamma: float) -> float:
    """Return sum_t gamma^t grade_t of the turns of a dialogue.

    Example:
        >>> discounted_return([1.0, 2.0, 4.0], gamma=0.5)
        3.0
    """
    return sum(gamma**t * grade for t, grade in enumerate(grades))


class DialogueValue(RecordMetric):
    """Mean grade of a turn, and mean discounted return of a dialogue.

    Args:
        gamma: Discount.
        options: Of `torchmetrics.Metric`.
    """

    def __init__(self, gamma: float = 0.85, **options: Any) -> None:
        super().__init__(**options)
        self.gamma = gamma

    def update(
        self, dialogues: Sequence[Sequence[float]], ids: Sequence[str] | None = None
    ) -> None:
        """Add the grades, 0 to 5, of the turns of dialogues; of those with one id the first."""
        self.keep([list(grades) for grades in dialogues], ids)

    def compute(self) -> dict[str, float]:
        """Return `reward`, of a turn, and `value`, of a dialogue; nothing without turns."""
        dialogues = self.kept()
        grades = [grade for dialogue in dialogues for grade in dialogue]
        if not grades:
            return {}
        returns = [discounted_return(dialogue, self.gamma) for dialogue in dialogues]
        return {"reward": sum(grades) / len(grades), "value": sum(returns) / len(returns)}
