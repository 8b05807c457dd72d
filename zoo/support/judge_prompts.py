"""Wording for a model that judges support replies, and reading of its answers.

The papers' own judge prompts are not published; what they say of them is kept: the judge sees the
conversation and replies A and B, weighs how well each follows its strategy first, then overall
quality, naturalness and consistency, reasons briefly, and ends in `[[A]]`, `[[B]]` or `[[C]]` for a
tie. A grade is 0 to 5, in double brackets too.
"""

from __future__ import annotations

import re
from typing import Literal

from zoo.records import Turn
from zoo.support.decisions import Decision, description, transcript
from zoo.support.labels import SUPPORT, Labels

Choice = Literal["A", "B", "tie"]

COMPARE_SYSTEM = (
    "You are a careful judge of emotional support. You read a conversation and two replies that "
    "the supporter could give next, A and B. Weigh them in this order. First: does the reply carry "
    "out a support strategy that fits the seeker now, the named one if one is named? Then: overall "
    "quality, how natural it sounds, and whether it is consistent with the conversation. Length "
    "and the order in which the replies are shown count for nothing. Reason in two or three "
    "sentences, then end with your verdict in double brackets: [[A]] if A is better, [[B]] if B is "
    "better, [[C]] if neither is."
)
GRADE_SYSTEM = (
    "You are a careful judge of emotional support. You read a conversation and what the supporter "
    "does next: a support strategy, a reply, or both. Grade how satisfied this would leave the "
    "seeker, from 0 (harmful or out of place) to 5 (just what they need now). Reason in one or two "
    "sentences, then end with the grade in double brackets, for example [[3]]."
)


def comparison(decision: Decision, first: Turn, second: Turn) -> list[tuple[str, str]]:
    """Return the (role, text) turns that ask which of two replies is better."""
    asked = (
        f"{situation(decision)}\n\nReply A{named(first)}:\n{first.text}\n\n"
        f"Reply B{named(second)}:\n{second.text}\n\nWhich reply is better?"
    )
    return [("system", COMPARE_SYSTEM), ("user", asked)]


def grading(decision: Decision, candidate: Turn, labels: Labels = SUPPORT) -> list[tuple[str, str]]:
    """Return the (role, text) turns that ask for a grade of a strategy, a reply, or both."""
    next_step = []
    if candidate.strategy:
        meaning = labels.definitions.get(candidate.strategy)
        strategy = f"{candidate.strategy} ({meaning})" if meaning else candidate.strategy
        next_step.append(f"The supporter's next strategy: {strategy}")
    if candidate.text:
        next_step.append(f"The supporter's next reply: {candidate.text}")
    asked = "\n".join([situation(decision), "", *next_step, "", "Your grade from 0 to 5?"])
    return [("system", GRADE_SYSTEM), ("user", asked)]


def situation(decision: Decision) -> str:
    """Return what a judge knows of the conversation."""
    known = description(decision)
    return f"{known}\n\nConversation:\n{transcript(decision.turns)}".strip()


def named(reply: Turn) -> str:
    """Return the strategy of a reply as a note behind its letter; empty if it names none."""
    return f" (strategy: {reply.strategy})" if reply.strategy else ""


def read_choice(words: str) -> Choice | None:
    """Return the last verdict in a judge's words; None if there is none.

    Example:
        >>> read_choice("Both are kind, but B asks more. [[B]]"), read_choice("B, I think")
        ('B', None)
    """
    verdicts = re.findall(r"\[\[\s*([ABC])\s*\]\]", words)
    choices: dict[str, Choice] = {"A": "A", "B": "B", "C": "tie"}
    return choices[verdicts[-1]] if verdicts else None


def read_grade(words: str) -> float | None:
    """Return the last grade from 0 to 5 in a judge's words; None if there is none.

    Example:
        >>> read_grade("Warm, but too early. [[2]]"), read_grade("[[7]]")
        (2.0, None)
    """
    grades = re.findall(r"\[\[\s*(\d+(?:\.\d+)?)\s*(?:/\s*5\s*)?\]\]", words)
    grade = float(grades[-1]) if grades else None
    return grade if grade is not None and grade <= 5 else None
