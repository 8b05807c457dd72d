"""How well a reply acts out an emotion: the rubric of the sibling Self-EmoQ (arXiv 2606.09837).

A judge grades a reply from 0 to 5 in three ways, against the emotion that it was to show:

    alignment    the reply shows the emotion
    transition   it is a natural step on Plutchik's wheel from what the user feels: neighbours fit,
                 opposites need something between them
    function     it acts out what the emotion is for

    (J1)  grade = sum_g P(g) g                        under the judge's odds of the digits 0 to 5
    (J2)  r = (1 - w) 1[named = wanted] + w r_Plu      r_Plu the mean grade over 5

`named` is the emotion that the judge finds most likely in the reply. (J2) is known from second
hand; its mean of the grades, w = 0.5 and (J1), which needs no number from a small judge, are chosen
here. Of two replies to compare, both are graded against the same wanted emotion.
"""

from __future__ import annotations

from dataclasses import dataclass

from zoo.errors import InputError, nearest
from zoo.judges.judge import Judge, Messages
from zoo.methods.sova.map_prompts import QUOTED, quote
from zoo.methods.sova.prompts import THEORIES

FUNCTIONS = THEORIES["emotion"][1]
CIRCLE = ("joy", "trust", "fear", "surprise", "sadness", "disgust", "anger", "anticipation")
BETWEEN = {
    "love": ("joy", "trust"),
    "submission": ("trust", "fear"),
    "disapproval": ("surprise", "sadness"),
    "remorse": ("sadness", "disgust"),
    "contempt": ("disgust", "anger"),
    "aggressiveness": ("anger", "anticipation"),
    "optimism": ("anticipation", "joy"),
}
"""Emotions of the dataset that stand between two neighbours of the circle."""

PLACES = {
    **{name: float(place) for place, name in enumerate(CIRCLE)},
    **{name: CIRCLE.index(first) + 0.5 for name, (first, _) in BETWEEN.items()},
}
DIGITS = ("0", "1", "2", "3", "4", "5")
ASPECTS = ("alignment", "transition", "function")


@dataclass(frozen=True, slots=True)
class ReplyGrades:
    """What a judge says of a reply.

    Attributes:
        alignment: 0 to 5.
        transition: 0 to 5.
        function: 0 to 5.
        felt: The emotion that the judge finds in the user's words.
        named: The one that it finds in the reply.
        wanted: The one that the reply was to show.
    """

    alignment: float
    transition: float
    function: float
    felt: str
    named: str
    wanted: str

    def reward(self, weight: float = 0.5) -> float:
        """Return r of (J2), 0 to 1; `weight` is w."""
        mean = (self.alignment + self.transition + self.function) / (3 * max(map(int, DIGITS)))
        return (1 - weight) * (self.named == self.wanted) + weight * mean


def distance(one: str, other: str) -> float:
    """Return the steps between two emotions on the wheel: 1 for neighbours, 4 for opposites.

    Raises:
        InputError: One is not on the wheel.
    """
    for name in (one, other):
        if name not in PLACES:
            raise InputError(f"emotion: {name!r} is not on the wheel; {nearest(name, PLACES)}")
    apart = abs(PLACES[one] - PLACES[other])
    return min(apart, len(CIRCLE) - apart)


def grade(judge: Judge, conversation: str, reply: str, wanted: str) -> ReplyGrades:
    """Return what a judge says of a reply.

    Args:
        judge: Scores digits and names of emotions.
        conversation: What was said before, the user last.
        reply: The reply.
        wanted: The emotion that it was to show; on the wheel.

    Raises:
        InputError: `wanted` is not on the wheel.
    """
    felt = named_by(judge, felt_question(conversation), CIRCLE)
    steps = distance(felt, wanted)
    names = CIRCLE if wanted in CIRCLE else (*CIRCLE, wanted)
    grades = {
        aspect: expected_grade(judge, question(aspect, conversation, reply, wanted, felt, steps))
        for aspect in ASPECTS
    }
    named = named_by(judge, named_question(reply), names)
    return ReplyGrades(**grades, felt=felt, named=named, wanted=wanted)


def expected_grade(judge: Judge, messages: Messages) -> float:
    """Return (J1)."""
    odds = judge.score(messages, DIGITS)
    return sum(int(digit) * share for digit, share in zip(DIGITS, odds, strict=True))


def named_by(judge: Judge, messages: Messages, names: tuple[str, ...]) -> str:
    """Return the most likely name; of equals the first."""
    odds = judge.score(messages, names)
    return names[odds.index(max(odds))]


def felt_question(conversation: str) -> Messages:
    """Return what is asked about the user's emotion."""
    told = f"Conversation:\n{quote(conversation)}\n\n"
    return _asked(f"{told}Which emotion of Plutchik's wheel does the seeker feel at the end?")


def named_question(reply: str) -> Messages:
    """Return what is asked about the emotion of a reply, of which nothing else is shown."""
    return _asked(f"Reply:\n{quote(reply)}\n\nWhich emotion of Plutchik's wheel does it show?")


def question(
    aspect: str, conversation: str, reply: str, wanted: str, felt: str, steps: float
) -> Messages:
    """Return what is asked about one aspect of a reply; all three begin alike."""
    function = FUNCTIONS.get(wanted)
    if function is None:
        function = " and ".join(FUNCTIONS[name] for name in BETWEEN[wanted])
    asked = {
        "alignment": f"How clearly does the reply show {wanted}?",
        "transition": (
            f"The seeker feels {felt}; {wanted} is {steps:g} of 4 steps away on the wheel. "
            "Neighbours follow each other by themselves, opposites need something between them. "
            "How natural is the step that the reply takes?"
        ),
        "function": f"{wanted.capitalize()} is there to {function}. How well does the reply do it?",
    }
    told = f"Conversation:\n{quote(conversation)}\n\nReply:\n{quote(reply)}\n\n"
    return _asked(f"{told}{asked[aspect]} Answer with one digit from 0 (not at all) to 5 (fully).")


def _asked(text: str) -> Messages:
    return [("system", f"You judge replies in conversations. {QUOTED}"), ("user", text)]
