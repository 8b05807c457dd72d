"""What a model makes of a scene, and scenes as rows of text."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.methods.mupas.metrics import evenness, repetition
from zoo.records import Scene, Turn


@dataclass(frozen=True, slots=True)
class SceneReading:
    """What a model makes of a scene.

    Attributes:
        chances: P(r_t = i) of each turn, and of the one after the last, by name, each given the
            turns before it in its window, that of a window's first turn given the window before;
            none without names (pairwise).
        nats: Negative log-likelihood of the words of each who speaks, the speakers given
            (with S2, that they are not silent).
        tokens: Number of these tokens.
        reply: Words for the last turn, given what is before and who speaks.
    """

    chances: tuple[dict[str, float], ...]
    nats: dict[str, float]
    tokens: dict[str, int]
    reply: str = ""


def continued(begun: Scene, scene: Scene) -> dict[str, str]:
    """Return the row that `generate` prints of a scene that went on."""
    speakers = [turn.speaker for turn in scene.turns]
    row = {"scene": scene.setting or "-", "people": ", ".join(scene.names)}
    for number, turn in enumerate(scene.turns, start=1):
        given = " (given)" if number <= len(begun.turns) else ""
        row[f"turn {number}{given}"] = spoken(turn)
    how = "by itself" if scene.ended else "at its limit of turns"
    even = evenness(speakers, scene.names)
    again = repetition([turn.text for turn in scene.turns])
    row["ended"] = f"{how}; evenness of turns {even:.2f}, repeated {again:.2f}"
    return row


def expected(scene: Scene, reading: SceneReading) -> list[str]:
    """Return the most likely speaker of each turn, never who spoke before; none without names."""
    last = [None, *(turn.speaker for turn in scene.turns)]
    return [
        max((name for name in chances if name != before), key=chances.__getitem__)
        for before, chances in zip(last, reading.chances[:-1], strict=False)
    ]


def spoken(turn: Turn) -> str:
    """Return a turn as a line of a script."""
    return f"{turn.speaker}: {' '.join(turn.text.split())}"
