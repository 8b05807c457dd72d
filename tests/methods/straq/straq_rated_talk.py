"""A dialogue with ratings, straQ*'s encoder, and values of a state."""

from __future__ import annotations

from typing import Any

from zoo.methods.straq.encoder import TransitionEncoder
from zoo.methods.straq.rewards import Imitated
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.labels import SUPPORT
from zoo.tiny_models import byte_tokenizer


def talk() -> Dialogue:
    """Return an opening, four decisions of which two follow each other, and a rating."""
    return Dialogue(
        (
            Turn(SUPPORTER, "Hello.", strategy="Others"),
            Turn(SEEKER, "I lost my job."),
            Turn(SUPPORTER, "When?", strategy="questions"),
            Turn(SEEKER, "Last week."),
            Turn(SUPPORTER, "That must hurt.", strategy="Reflection of Feelings"),
            Turn(SUPPORTER, "I lost mine too.", strategy="Self-disclosure"),
            Turn(SEEKER, "Did you?", feedback=4),
            Turn(SUPPORTER, "Yes.", strategy="Information"),
        ),
        emotion="sadness",
        id="talk:1",
    )


def encoder(**options: Any) -> TransitionEncoder:
    return TransitionEncoder(byte_tokenizer(), SUPPORT, Imitated(SUPPORT), **options)


VALUES = (0.5, -1.0, 2.0, 0.0, 1.0, -0.5, 0.25, 0.75)
