"""Watch a scene in a terminal, or play one of its people."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from zoo.errors import InputError, nearest
from zoo.records import Scene, Turn

MIN_TURNS = 4
"""Turns before a scene may end, if nothing else is said: an untrained model ends it at once."""


def perform(
    model: Any,
    cast: Scene,
    setting: str,
    role: str | None,
    temperature: float = 0.0,
    min_turns: int = MIN_TURNS,
) -> Scene:
    """Let the people of a scene talk from its beginning, a line a turn; return what they said.

    Args:
        model: Simulates scenes (see `zoo.MuPaS`).
        cast: Its people, and its setting.
        setting: Another setting; empty for its own.
        role: Who the user is: their lines are read from the standard input, where an empty line or
            `/quit` ends. None to watch.
        temperature: Of speakers and words; 0 takes the most likely.
        min_turns: The scene does not end before so many turns, the user's too; it never has more
            than the model's `max_turns`.

    Raises:
        InputError: Nobody is called like the role, or `min_turns` is below 0.
    """
    if min_turns < 0:
        raise InputError(f"min_turns: {min_turns} is below 0")
    if role is not None and role not in cast.names:
        raise InputError(f"role: nobody here is called {role!r}; {nearest(role, cast.names)}")
    scene = replace(cast, setting=setting or cast.setting, turns=())
    terminal = sys.stdin.isatty()

    def write(line: str) -> None:
        print(line, flush=True)  # noqa: T201

    def told(turn: Turn) -> None:
        write(f"{turn.speaker}: {turn.text}")

    def listen() -> str | None:
        if terminal:
            print(f"{role}> ", end="", flush=True)  # noqa: T201
        text = " ".join(sys.stdin.readline().split())
        return None if text in ("", "/quit") else text

    def note(line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    if scene.setting:
        note(scene.setting)
    note(f"people: {', '.join(scene.names)}")
    if role is not None:
        note(f"you are {role}; an empty line or /quit ends")
    asked = {"temperature": temperature, "min_turns": min_turns}
    played = model.simulate(scene, user=role, listen=listen, told=told, **asked)
    note("(the scene is over)" if played.ended else f"(stopped after {len(played.turns)} turns)")
    return played
