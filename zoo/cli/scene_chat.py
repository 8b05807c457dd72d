"""Watch a scene in a terminal, or play one of its people."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from zoo.errors import InputError, nearest
from zoo.records import Scene, Turn


def perform(
    model: Any, cast: Scene, setting: str, role: str | None, temperature: float = 0.0
) -> Scene:
    """Let the people of a scene talk from its beginning, a line a turn; return what they said.

    Args:
        model: Simulates scenes (see `zoo.MuPaS`).
        cast: Its people, and its setting.
        setting: Another setting; empty for its own.
        role: Who the user is: their lines are read from the standard input, where an empty line or
            `/quit` ends. None to watch.
        temperature: Of speakers and words; 0 takes the most likely.

    Raises:
        InputError: Nobody is called like the role.
    """
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
    played = model.simulate(scene, user=role, listen=listen, told=told, temperature=temperature)
    note("(the scene is over)" if played.ended else f"(stopped after {len(played.turns)} turns)")
    return played
