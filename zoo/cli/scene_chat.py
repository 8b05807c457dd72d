"""Watch a scene in a terminal, or play one of its people."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from zoo.records import Scene, Turn


def perform(model: Any, cast: Scene, setting: str, role: str | None) -> Scene:
    """Let the people of a scene talk from its beginning, a line a turn; return what they said.

    Args:
        model: Simulates scenes (see `zoo.MuPaS`).
        cast: Its people, and its setting.
        setting: Another setting; empty for its own.
        role: Who the user is: their lines are read from the standard input, where an empty line or
            `/quit` ends. None to watch.

    Raises:
        InputError: Nobody is called like the role.
    """
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

    if scene.setting:
        print(scene.setting, file=sys.stderr)  # noqa: T201
    print(f"people: {', '.join(scene.names)}", file=sys.stderr)  # noqa: T201
    return model.simulate(scene, user=role, listen=listen, told=told)
