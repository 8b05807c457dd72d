"""Who speaks next by rule, without a model: what a trained one has to beat.

The candidates of a turn are the scene's people but the last speaker, who cannot speak twice in a
row where neighbouring turns are merged. The first turn is not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from zoo.records import Scene

Rule = Callable[[Scene, int], dict[str, float]]


def candidates(scene: Scene, turn: int) -> list[str]:
    """Return the names that may speak at a turn."""
    last = scene.turns[turn - 1].speaker if turn else None
    return [name for name in scene.names if name != last]


def uniform(scene: Scene, turn: int) -> dict[str, float]:
    """Everybody else is as likely."""
    names = candidates(scene, turn)
    return dict.fromkeys(names, 1 / len(names))


def most_frequent(scene: Scene, turn: int) -> dict[str, float]:
    """The other one with most turns so far, of several who spoke first; nobody before turn 3."""
    others = candidates(scene, turn)
    counts = Counter(t.speaker for t in scene.turns[:turn] if t.speaker in others)
    return {counts.most_common(1)[0][0]: 1.0} if counts else {}


def previous_other(scene: Scene, turn: int) -> dict[str, float]:
    """Alternation: who spoke before the last speaker; nobody for the second turn."""
    return {scene.turns[turn - 2].speaker: 1.0} if turn >= 2 else {}


def alternation(scene: Scene, turn: int) -> dict[str, float]:
    """The same; at the second turn everybody else is as likely."""
    return previous_other(scene, turn) or uniform(scene, turn)


RULES: dict[str, Rule] = {
    "uniform": uniform,
    "most_frequent": most_frequent,
    "previous_other": previous_other,
    "alternation": alternation,
}


def accuracy(scenes: Iterable[Scene], rule: Rule, *, at_least: int = 2) -> tuple[float, int]:
    """Return how often a rule names the next speaker, and the number of turns.

    Args:
        scenes: Scenes without two neighbouring turns of one speaker.
        rule: Chances of the candidates of a turn.
        at_least: Leave out scenes with fewer speakers.
    """
    right, count = 0.0, 0
    for scene in scenes:
        if len(scene.speakers) < at_least:
            continue
        for turn in range(1, len(scene.turns)):
            right += rule(scene, turn).get(scene.turns[turn].speaker, 0.0)
            count += 1
    return right / count, count
