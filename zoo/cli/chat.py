"""Talk to a method: in a terminal, or a line a turn over a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol

from zoo.errors import InputError
from zoo.records import SEEKER, Dialogue, Turn

HELP = "an empty line or /quit ends, /new starts again"
DIM, PLAIN = "\033[2m", "\033[0m"


class Talker(Protocol):
    """What can be talked to (see `zoo.module.ZooModule.converse`)."""

    def converse(self, dialogue: Dialogue) -> tuple[dict[str, str], Dialogue]:
        """Return what to show beside a reply, and the dialogue with the reply."""
        ...


def chat(
    model: Talker,
    opening: Dialogue,
    messages: Iterable[str],
    write: Callable[[str], Any],
    *,
    terminal: bool = False,
) -> Dialogue:
    """Answer messages until there are no more; return the dialogue.

    Args:
        model: Who answers.
        opening: What is known before the first message.
        messages: What the user says, a line each. An empty line or `/quit` ends,
            `/new` starts again.
        write: Takes each line of output.
        terminal: Write notes on lines of their own before the reply, and an error where a message
            cannot be answered. Else a line a turn: the reply, a tab, the notes.

    Raises:
        InputError: A message cannot be answered, and `terminal` is False.
    """
    dialogue = opening
    for message in messages:
        text = " ".join(message.split())
        if text in ("", "/quit"):
            break
        if text == "/new":
            dialogue = opening
            continue
        asked = replace(dialogue, turns=(*dialogue.turns, Turn(SEEKER, text)))
        try:
            notes, dialogue = model.converse(asked)
        except InputError as error:
            if not terminal:
                raise
            write(f"error: {error}")
            continue
        reply = " ".join(dialogue.turns[-1].text.split())
        shown = {name: " ".join(note.split()) for name, note in notes.items()}
        if terminal:
            for name, note in shown.items():
                write(f"{DIM}  {name + ':':<10} {note}{PLAIN}")
            write(reply)
        else:
            write("\t".join([reply, " | ".join(f"{n}: {note}" for n, note in shown.items())]))
    return dialogue


def typed() -> Iterator[str]:
    """Yield what is typed in a terminal, until end of file or an interrupt."""
    while True:
        try:
            yield input("you> ")
        except (EOFError, KeyboardInterrupt):
            return


def run(model: Talker, opening: Dialogue) -> None:
    """Chat over the process's own input and output."""
    terminal = sys.stdin.isatty()

    def write(line: str) -> None:
        print(line, flush=True)  # noqa: T201

    if terminal:
        write(f"{type(model).__name__}: {HELP}")
    chat(model, opening, typed() if terminal else sys.stdin, write, terminal=terminal)
