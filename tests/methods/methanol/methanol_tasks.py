"""Small tasks that a tiny MeTHanol learns by heart, and its training on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from training import learn

from zoo.records import Triple


def train(
    module: Any, batches: Iterator[Any], steps: int, lr: float, *, decay_from: float = 0.6
) -> list[dict[str, float]]:
    """Train with warm-up and linear decay; return the mean of each term at every step."""

    def rate(step: int) -> float:
        late = max(0.0, step / steps - decay_from) / (1 - decay_from)
        return lr * min(1.0, (step + 1) / 5) * (1 - 0.9 * late)

    return learn(module, batches, steps, rate)


def repeat(batch: Any) -> Iterator[Any]:
    while True:
        yield batch


def stories() -> list[Triple]:
    """Sally-Anne in miniature: only the order of leaving and moving decides what Ann thinks."""
    found = []
    for first, second in (("box", "bag"), ("bag", "box")):
        moves = f"Bob: ball in {second}."
        for kind, middle, seen in (
            ("false_belief", f"Ann left. {moves}", first),
            ("true_belief", f"{moves} Ann left.", second),
        ):
            query = f"Ann: ball in {first}. {middle} Ann looks?"
            found.append(Triple(query, f"Ann saw {seen}.", seen, system="s", kind=kind))
    return found


def choices() -> list[Triple]:
    """One query, two thoughts: the answer can come from the thought alone."""
    return [Triple("Pick.", f"I want {x}.", x, system="s") for x in ("red", "sky")]


def personas() -> list[Triple]:
    """One query under two system prompts, which think and answer differently."""
    return [
        Triple("I am late.", "Be kind.", "Oh dear!", system="A friend."),
        Triple("I am late.", "Be strict.", "So what.", system="A boss."),
    ]


STEPS = 280
