"""Conversations of several people: a setting, the people, and who said what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zoo.records.dialogue import Turn


@dataclass(frozen=True, slots=True)
class Role:
    """Somebody who may speak.

    Attributes:
        name: Name that stands before the turns; different from the others of the scene, also in
            one line.
        description: Who that is; may be empty.
    """

    name: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """A conversation among two or more people.

    Attributes:
        roles: The people, also those who say nothing.
        turns: What was said, in order; each `speaker` is the name of a role.
        setting: Place, situation, topic; may be empty.
        ended: Whether the conversation ends with its last turn, and is not cut there.
        id: Where the record comes from.
    """

    roles: tuple[Role, ...]
    turns: tuple[Turn, ...]
    setting: str = ""
    ended: bool = True
    id: str = ""

    @property
    def names(self) -> list[str]:
        """Names of the roles, in order."""
        return [role.name for role in self.roles]

    @property
    def speakers(self) -> list[str]:
        """Names of those who speak, in the order of their first turns."""
        return list(dict.fromkeys(turn.speaker for turn in self.turns))


def one_line(text: str) -> str:
    """Return a text without line breaks, which would end a name or a card."""
    return " ".join(text.split())


def same_in_one_line(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two names that are the same before turns; None if all differ.

    Example:
        >>> same_in_one_line(["Ann B", "Bob", "Ann  B"])
        ('Ann B', 'Ann  B')
    """
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(one_line(name), name)
        if first != name:
            return first, name
    return None
