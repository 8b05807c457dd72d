"""Summaries of human or judged ratings, and of graded dialogues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

AXES = (
    *("fluency", "emotion", "acceptance", "effectiveness", "sensitivity"),
    *("alignment", "satisfaction"),
)
"""Axes of the human evaluation, 1 to 5 each."""

FACETS = ("acceptance", "effectiveness", "sensitivity", "alignment")
"""Facets of satisfaction; alignment only where a reply names its strategy."""


def mean_ratings(raters: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each axis over independent raters, and `satisfaction`.

    Args:
        raters: Axis -> rating, 1 to 5, of each rater.

    Raises:
        ValueError: There is no rater, an axis is unknown, missing for a rater, or out of range.
    """
    if not raters:
        raise ValueError("no ratings")
    axes = list(raters[0])
    for ratings in raters:
        wrong = [a for a in ratings if a not in AXES or not 1 <= ratings[a] <= 5]
        if wrong or set(ratings) != set(axes):
            axis = (wrong or sorted(set(ratings) ^ set(axes)))[0]
            raise ValueError(f"axis {axis!r}: every rater rates the same of {AXES} from 1 to 5")
    means = {axis: sum(r[axis] for r in raters) / len(raters) for axis in axes}
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


def value_scores(dialogues: Sequence[Sequence[float]], gamma: float = 0.85) -> dict[str, float]:
    """Return the mean grade of a turn and the mean discounted return of a dialogue.

    Args:
        dialogues: Grades, 0 to 5, of the turns of each dialogue; at least one turn in all.
        gamma: Discount.
    """
    grades = [grade for dialogue in dialogues for grade in dialogue]
    returns = [discounted_return(dialogue, gamma) for dialogue in dialogues]
    return {"reward": sum(grades) / len(grades), "value": sum(returns) / len(returns)}
