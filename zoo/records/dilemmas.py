"""Dilemmas with two actions, the values that each action involves, and theories of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TO_DO, NOT_TO_DO = "to_do", "not_to_do"
ACTION_TYPES = (TO_DO, NOT_TO_DO)

THEORIES: dict[str, tuple[str, ...]] = {
    "wvs": ("Traditional", "Secular-rational", "Survival", "Self-expression"),
    "mft": ("Care", "Fairness", "Loyalty", "Authority", "Purity"),
    "virtue": (
        *("Truthfulness", "Courage", "Friendliness", "Ambition", "Liberality", "Temperance"),
        *("Modesty", "Righteous Indignation", "Patience"),
    ),
    "emotion": (
        *("trust", "anticipation", "joy", "optimism", "love", "submission", "fear", "sadness"),
        *("disgust", "anger", "remorse", "disapproval", "contempt", "aggressiveness"),
    ),
    "maslow": (
        *("physiological", "safety", "love and belonging", "self-esteem"),
        "self-actualization",
    ),
}
"""Labels of each theory: World Values Survey, Moral Foundations, Aristotle's virtues, Plutchik's
wheel, Maslow's needs (in their order, the most basic first)."""


@dataclass(frozen=True, slots=True)
class Action:
    """One of the two actions of a dilemma; all of it is for scoring, nothing for a prompt.

    Attributes:
        text: The action in a few words.
        consequence: What may go wrong with it.
        values: Names of the values that it involves; a name may come twice.
        labels: For each theory, the label of every value; empty where a theory has none for it.
    """

    text: str
    consequence: str
    values: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]

    def of(self, theory: str) -> list[str]:
        """Return the labels that a theory has for this action, blanks left out."""
        return [label for label in self.labels.get(theory, ()) if label]


@dataclass(frozen=True, slots=True)
class Dilemma:
    """An everyday moral dilemma. A model sees `situation` alone.

    Attributes:
        situation: What happens, with a question about doing something at its end.
        to_do: The action of who does it.
        not_to_do: The action of who does not.
        topic: Group of topics (`workplace`, `family`, ...); may be empty.
        derived: Its values were recovered from results of others and are incomplete.
        id: The dataset's number of the dilemma.
    """

    situation: str
    to_do: Action
    not_to_do: Action
    topic: str = ""
    derived: bool = False
    id: str = ""

    def action(self, action_type: str) -> Action:
        """Return the action of a type, `to_do` or `not_to_do`."""
        return {TO_DO: self.to_do, NOT_TO_DO: self.not_to_do}[action_type]


@dataclass(frozen=True, slots=True)
class PrincipleText:
    """A principle of conduct as somebody published it.

    Attributes:
        text: The principle.
        source: Who says it.
        id: Its file and line.
    """

    text: str
    source: str
    id: str


def unlabelled(situation: str) -> Dilemma:
    """Return a dilemma of which only the text is known."""
    nothing = Action("", "", (), {})
    return Dilemma(situation, nothing, nothing)
