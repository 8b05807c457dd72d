"""What is believed of the user: factors with labels, one letter each.

    belief b_t = (emotion e_t, sentiment v_t, intention i_t)

A label is coded by one letter, so the distribution of a factor is one softmax over its letters.
`derived_sentiment` is the map for data that annotate emotions alone.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoo.errors import InputError
from zoo.records import SEEKER
from zoo.support.decisions import Decision
from zoo.support.labels import ACTS, EMOTION_SETS

LETTERS = string.ascii_uppercase + string.ascii_lowercase
UNKNOWN = "unknown"
SENTIMENTS = ("negative", "neutral", "positive")
INTENSITIES = ("1", "2", "3", "4", "5")
Belief = tuple[str, ...]
"""The label of each factor; empty where it is not known."""

SENTIMENT_OF = {
    "daily_dialog": {
        "happiness": "positive",
        **dict.fromkeys(("anger", "disgust", "fear", "sadness"), "negative"),
        "no emotion": "neutral",
        "surprise": "neutral",  # the default; see `surprise`
    },
    "esconv": dict.fromkeys(EMOTION_SETS["esconv"].names, "negative"),
    "empathetic_dialogues": {
        **dict.fromkeys(
            (
                *("sad", "terrified", "disappointed", "jealous", "disgusted", "ashamed", "afraid"),
                *("devastated", "annoyed", "anxious", "furious", "lonely", "angry"),
                *("apprehensive", "guilty", "embarrassed"),
            ),
            "negative",
        ),
        **dict.fromkeys(
            (
                *("trusting", "caring", "faithful", "joyful", "impressed", "excited", "content"),
                *("confident", "grateful", "hopeful", "proud"),
            ),
            "positive",
        ),
        **dict.fromkeys(
            ("surprised", "sentimental", "anticipating", "prepared", "nostalgic"), "neutral"
        ),
    },
}
"""Data set -> emotion -> sentiment. Those of EmpatheticDialogues are chosen here."""


@dataclass(frozen=True)
class Factor:
    """One part of a belief.

    Attributes:
        name: `emotion`, `sentiment`, `intention` or `intensity`.
        labels: Its labels; the letters A, B, ... stand for them in this order.
    """

    name: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that there are letters enough."""
        if not 2 <= len(self.labels) <= len(LETTERS):
            raise InputError(
                f"model.factors: {self.name} has {len(self.labels)} labels, expected 2 to "
                f"{len(LETTERS)}"
            )

    def options(self) -> str:
        """Return the labels with their letters."""
        pairs = zip(LETTERS, self.labels, strict=False)
        return f"{self.name}: " + ", ".join(f"{letter} {label}" for letter, label in pairs)


def factors_of(names: Sequence[str], dataset: str) -> tuple[Factor, ...]:
    """Return the factors of a data set by name.

    Raises:
        InputError: There is no such factor, or it is named twice.
    """
    known = {
        "emotion": EMOTION_SETS[dataset].names,
        "sentiment": SENTIMENTS,
        "intention": ACTS.names,
        "intensity": INTENSITIES,
    }
    for name in names:
        if name not in known or list(names).count(name) > 1:
            raise InputError(f"model.factors: {name!r}; each of {', '.join(known)} at most once")
    return tuple(Factor(name, known[name]) for name in names)


def annotated(
    decision: Decision, factors: Sequence[Factor], dataset: str, surprise: str = "neutral"
) -> Belief:
    """Return what the data say of the seeker at a decision; empty where they say nothing.

    The emotion is that of the seeker's last turn, else that of the dialogue; the intention is the
    act of that turn; the sentiment follows from the emotion; ESConv's seekers say before and after
    the talk how strong the emotion is, which the first and the last state have.

    Args:
        decision: The state, the seeker's utterance last.
        factors: Which factors.
        dataset: Whose labels.
        surprise: Sentiment of DailyDialog's surprise.
    """
    last = decision.turns[-1] if decision.turns else None
    if last is None or last.speaker != SEEKER:  # nothing was observed
        return ("",) * len(factors)
    emotion = EMOTION_SETS[dataset].known(last.emotion or decision.emotion) or ""
    sentiment: Mapping[str, str] = SENTIMENT_OF[dataset]
    if dataset == "daily_dialog":
        sentiment = {**sentiment, "surprise": surprise}
    intention = last.strategy if last.strategy in ACTS.names else ""
    found = {"emotion": emotion, "sentiment": sentiment.get(emotion, ""), "intention": intention}
    found["intensity"] = str(decision.intensity or "")
    return tuple(found[factor.name] for factor in factors)


def belief_line(factors: Sequence[Factor], belief: Belief | None) -> str:
    """Return a belief in words, as components that are conditioned on it read it.

    Example:
        >>> belief_line([Factor("sentiment", SENTIMENTS)], ("negative",))
        'sentiment=negative'
    """
    if belief is None:
        return ""
    pairs = zip(factors, belief, strict=True)
    return "; ".join(f"{factor.name}={label or UNKNOWN}" for factor, label in pairs)


def indices(factors: Sequence[Factor], belief: Belief) -> list[int]:
    """Return the index of each factor's label, -1 where it is not known."""
    pairs = zip(factors, belief, strict=True)
    return [factor.labels.index(label) if label else -1 for factor, label in pairs]
