"""A scene as token ids: a system turn with setting and people, then turns under their names.

    system    setting, and a card of each person
    Ann       Who is there?<end of turn>
    Bob       Me.<end of turn>
    <end of turn>                                     an empty turn of nobody: the scene is over

Names stand where a chat format has its roles, people are never mapped to `user` and `assistant`. A
header holds everything up to the first word, its closing delimiter too, so that no header is the
beginning of another one. A scene that is longer than the window is cut between turns into windows
that each begin with the system turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zoo.errors import InputError, TooLongError
from zoo.markup import Markup
from zoo.prompts.base import PromptEncoder
from zoo.records import Scene, Turn
from zoo.records.scene import one_line, same_in_one_line


@dataclass(frozen=True, slots=True)
class Spoken:
    """A turn as token ids.

    Attributes:
        name: Who speaks.
        header: Ids up to the first word.
        words: Ids of the words and of the end of the turn.
    """

    name: str
    header: list[int]
    words: list[int]


@dataclass(frozen=True, slots=True)
class Window:
    """Turns of a scene that follow each other and fit a window.

    Attributes:
        scene: The scene.
        first: Index of its first turn in the scene.
        prefix: Ids of the system turn.
        headers: Ids of the header of each person, also of those who say nothing.
        turns: The turns; none of a scene that has not begun.
        ends: Whether the scene is over behind them.
    """

    scene: Scene
    first: int
    prefix: list[int]
    headers: dict[str, list[int]]
    turns: list[Spoken]
    ends: bool

    def counts(self, *, headers: bool) -> Counter[str]:
        """Return the learned tokens of each person who speaks here, after everything is cut.

        Args:
            headers: Headers, and the end of the scene with its last speaker, are among them.
        """
        found: Counter[str] = Counter()
        for turn in self.turns:
            found[turn.name] += len(turn.words) + headers * len(turn.header)
        if self.turns:
            found[self.turns[-1].name] += headers and self.ends
        return found

    @property
    def boundaries(self) -> int:
        """Number of places where somebody is chosen to speak, or the scene to end."""
        return len(self.turns) + self.ends


def card(scene: Scene) -> str:
    """Return the text of the system turn."""
    lines = [f"Scene: {one_line(scene.setting)}"] if scene.setting else []
    lines.append("People:")
    for role in scene.roles:
        described = f": {one_line(role.description)}" if role.description else ""
        lines.append(f"- {one_line(role.name)}{described}")
    return "\n".join(lines)


@dataclass
class SceneWindows(PromptEncoder):
    """What every encoder of scenes shares: headers, turns and windows as token ids."""

    records: ClassVar[tuple[type, ...]] = (Scene,)

    def prefix(self, scene: Scene) -> list[int]:
        """Return the ids of the system turn."""
        return self.ids(self.system_turn(card(scene)))

    def header(self, name: str) -> list[int]:
        """Return the ids before a person's first word."""
        before, after = self.chat.header.split("{role}")
        return self.ids(Markup(self.chat.gap + before) + one_line(name) + Markup(after))

    def headers(self, scene: Scene) -> dict[str, list[int]]:
        """Return the header of each person of a scene.

        Raises:
            InputError: Two people have the same one.
        """
        if same := same_in_one_line(scene.names):
            raise InputError(f"{scene.id or 'scene'}: {same[0]!r} and {same[1]!r} have one header")
        return {name: self.header(name) for name in scene.names}

    def spoken(self, turn: Turn) -> Spoken:
        """Return a turn as token ids."""
        words = self.ids(turn.text + self.chat.end)
        return Spoken(turn.speaker, self.header(turn.speaker), words)

    def windows(self, scene: Scene) -> list[Window]:
        """Return the windows of a scene.

        Raises:
            InputError: Two people have the same header.
            TooLongError: A turn does not fit behind the system turn.
        """
        prefix, turns = self.prefix(scene), [self.spoken(turn) for turn in scene.turns]
        room = self.max_length - len(prefix) - 1  # the end of the scene
        starts, used = [0], 0
        for i, turn in enumerate(turns):
            size = len(turn.header) + len(turn.words)
            if size > room:
                raise TooLongError(
                    f"{scene.id or 'scene'}: turn {i + 1} and the people are {len(prefix) + size} "
                    f"tokens, longer than the window max_length={self.max_length}; raise max_length"
                )
            if used + size > room:
                starts.append(i)
                used = 0
            used += size
        headers = self.headers(scene)
        stops = [*starts[1:], len(turns)]
        return [
            Window(
                scene,
                start,
                prefix,
                headers,
                turns[start:stop],
                ends=scene.ended and stop == len(turns),
            )
            for start, stop in zip(starts, stops, strict=True)
        ]

    def before(self, window: Window, turn: int) -> list[int]:
        """Return the ids before a turn of a window, its header not among them."""
        return [
            *window.prefix,
            *(token for said in window.turns[:turn] for token in (*said.header, *said.words)),
        ]


def protagonist(scene: Scene) -> str:
    """Return who has most turns; of several, who spoke first."""
    return Counter(turn.speaker for turn in scene.turns).most_common(1)[0][0]


def pair_view(turns: Sequence[Spoken], name: str) -> list[tuple[bool, list[Spoken]]]:
    """Return the turns as two people see them: runs of one person's, and of all others."""
    runs: list[tuple[bool, list[Spoken]]] = []
    for turn in turns:
        mine = turn.name == name
        if not runs or runs[-1][0] != mine:
            runs.append((mine, []))
        runs[-1][1].append(turn)
    return runs
