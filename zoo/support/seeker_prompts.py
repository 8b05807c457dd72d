"""Wording for a model that plays the one who seeks support, and its wish to stop."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.records import SUPPORTER, Turn

STOP = "[[END]]"


def seeker_system(topic: str) -> str:
    """Return the system turn of a seeker who wants to talk about a topic or situation."""
    return (
        f"You are a person who chats with a supporter about this: {topic}\n"
        "Write your own next message only, in one to three sentences of everyday language, and "
        "react to what the supporter said last. Never speak for the supporter. Once you have "
        f"nothing more to say, or no longer wish to talk, write {STOP} and nothing else."
    )


def seeker_prompt(topic: str, turns: Sequence[Turn]) -> list[tuple[str, str]]:
    """Return the (role, text) turns that ask the seeker for the next message.

    The model is the seeker, so the supporter's turns are the user's. A conversation always begins
    with a user turn.
    """
    roles = [("user" if turn.speaker == SUPPORTER else "assistant", turn.text) for turn in turns]
    opening = [] if roles and roles[0][0] == "user" else [("user", "Hello. What brings you here?")]
    return [("system", seeker_system(topic)), *opening, *roles]


def read_seeker(words: str) -> str | None:
    """Return the seeker's message; None if they wish to stop or say nothing.

    Example:
        >>> read_seeker(" I slept badly. "), read_seeker("Thanks, bye! [[END]]")
        ('I slept badly.', None)
    """
    return None if STOP in words else words.strip() or None
