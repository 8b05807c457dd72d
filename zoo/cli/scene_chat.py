"""Watch a scene in a terminal, or play one of its people."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from zoo.errors import InputError, TooLongError, nearest
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
            `/quit` ends, and one that is too long is asked for again. None to watch.
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

    def told(turn: Turn) -> None:
        print(f"{turn.speaker}: {turn.text}", flush=True)  # noqa: T201

    def listen() -> str | None:
        return line_of(str(role), model, scene)

    if scene.setting:
        note(scene.setting)
    note(f"people: {', '.join(scene.names)}")
    if role is not None:
        note(f"you are {role}; an empty line or /quit ends")
    asked = {"temperature": temperature, "min_turns": min_turns}
    played = model.simulate(scene, user=role, listen=listen, told=told, **asked)
    note("(the scene is over)" if played.ended else f"(stopped after {len(played.turns)} turns)")
    return played


def line_of(role: str, model: Any, scene: Scene) -> str | None:
    """Return what the user says, None where they leave; a line that is too long is asked again."""
    while True:
        if sys.stdin.isatty():
            print(f"{role}> ", end="", flush=True)  # noqa: T201
        text = " ".join(sys.stdin.readline().split())
        if text in ("", "/quit"):
            return None
        try:
            model.check_turn(scene, Turn(role, text))
        except TooLongError as error:
            note(f"{error}; say it in fewer words")
        else:
            return text


def note(line: str) -> None:
    """Write a line beside the scene."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
