"""Talk to a method: in a terminal, or a line a turn over a pipe.

What is said is the method's reply, made presentable for talking; evaluations score replies as they
are. A reply that fills its limit in tokens ends with its last whole sentence. An empty reply, or
one that was given before, is answered once more by the method's second best way (most sample it at
temperature 0.8), and a note says so.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any, Protocol

import torch

from zoo.cli.scene_chat import MIN_TURNS, perform
from zoo.errors import InputError, TooLongError
from zoo.module import ZooModule
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn

HELP = "an empty line or /quit ends, /new starts again"
DIM, PLAIN = "\033[2m", "\033[0m"
SECOND_TRY = 0.8  # temperature
ALIKE = 0.9  # share of the words of two replies that are one
NEARLY = 0.75  # of the limit: names and tags that were read off a reply counted, too
SENTENCE_END = re.compile(r"(?<=\S)[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019)\]*]*(?=\s|$)")


class Talker(Protocol):
    """What can be talked to (see `zoo.module.ZooModule.converse`)."""

    def converse(
        self, dialogue: Dialogue, *, temperature: float = 0.0
    ) -> tuple[dict[str, str], Dialogue]:
        """Return what to show beside a reply, and the dialogue with the reply."""
        ...


def chat(
    model: Talker,
    opening: Dialogue,
    messages: Iterable[str],
    write: Callable[[str], Any],
    *,
    terminal: bool = False,
    is_cut: Callable[[str], bool] = lambda _: False,
    drop: bool = False,
) -> Dialogue:
    """Answer messages until there are no more; return the dialogue.

    Args:
        model: Who answers.
        opening: What is known before the first message.
        messages: What the user says, a line each. An empty line or `/quit` ends,
            `/new` starts again.
        write: Takes each line of output: the reply, and the notes beside it.
        terminal: Dim the notes, and write an error where a message cannot be answered. Else a tab
            stands between reply and notes.
        is_cut: Whether a reply fills the limit of tokens.
        drop: Answer a message that is too long with an empty reply, and go on without it.

    Raises:
        InputError: A message cannot be answered, and nobody is there to write another one.
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
            notes, dialogue = answer(model, asked, is_cut)
        except InputError as error:
            if terminal:
                write(f"error: {error}")
            elif drop and isinstance(error, TooLongError):
                write(f"\terror: {error}")
            else:
                raise
            continue
        reply = " ".join(dialogue.turns[-1].text.split())
        shown = " | ".join(f"{name}: {' '.join(note.split())}" for name, note in notes.items())
        write(f"{reply}  {DIM}{shown}{PLAIN}" if terminal else f"{reply}\t{shown}")
    return dialogue


def answer(
    model: Talker, asked: Dialogue, is_cut: Callable[[str], bool]
) -> tuple[dict[str, str], Dialogue]:
    """Return the notes and the dialogue with a reply in whole sentences, a new one if there is."""
    given = [turn.text for turn in asked.turns if turn.speaker == SUPPORTER]
    notes, told = _whole(*model.converse(asked), is_cut)
    fault = fault_of(told.turns[-1].text, given)
    if not fault:
        return notes, told
    more, again = _whole(*model.converse(asked, temperature=SECOND_TRY), is_cut)
    if fault_of(again.turns[-1].text, given):
        return notes | {"reply": f"{fault}, also at the second try"}, told
    return more | {"reply": f"second try, the first was {fault}"}, again


def _whole(
    notes: dict[str, str], told: Dialogue, is_cut: Callable[[str], bool]
) -> tuple[dict[str, str], Dialogue]:
    """Return notes and dialogue; a last reply that was cut ends with its last whole sentence."""
    last = told.turns[-1]
    ends = [end.end() for end in SENTENCE_END.finditer(last.text)]
    if not ends or not is_cut(last.text):
        return notes, told
    whole = replace(last, text=last.text[: ends[-1]])
    return notes, replace(told, turns=(*told.turns[:-1], whole))


def fault_of(reply: str, given: Sequence[str]) -> str:
    """Return what is wrong with a reply after those given before; empty if nothing is."""
    words = reply.lower().split()
    if not words:
        return "empty"
    alike = (SequenceMatcher(None, words, old.lower().split()).ratio() for old in given)
    return "a repetition" if any(share >= ALIKE for share in alike) else ""


def typed() -> Iterator[str]:
    """Yield what is typed in a terminal, until end of file or an interrupt."""
    while True:
        try:
            yield input("you> ")
        except (EOFError, KeyboardInterrupt):
            return


def run(
    model: Any,
    opening: Dialogue,
    datamodule: Any = None,
    role: str | None = None,
    temperature: float | None = None,
    min_turns: int | None = None,
) -> None:
    """Chat over the process's own input and output; a first line says with whom.

    Over a pipe that line goes to the standard error, since the output is a line a message.

    Args:
        model: Who answers; one that simulates scenes lets people talk instead.
        opening: What is known before the first message.
        datamodule: The people of a scene are those of its first test record; its `too_long` says
            whether a message that is too long ends a conversation over a pipe.
        role: Which of them the user is; None to watch.
        temperature: Of speakers and words of a scene; None takes the most likely.
        min_turns: A scene does not end before so many turns; None for `scene_chat.MIN_TURNS`.

    Raises:
        InputError: The method does not talk, or has no scene that a role, a temperature or
            `min_turns` could be of, or see `chat`.
    """
    if hasattr(model, "simulate"):
        cast = datamodule.records("test")[0]
        least = MIN_TURNS if min_turns is None else min_turns
        perform(model, cast, opening.situation, role, temperature or 0.0, least)
        return
    scene_only = {"role": role, "temperature": temperature, "min_turns": min_turns}
    for name, value in scene_only.items():
        if value is not None:
            raise InputError(f"{name}: {type(model).__name__} takes none; leave it out")
    if type(model).converse is ZooModule.converse:
        model.converse(opening)  # raises
    terminal = sys.stdin.isatty()

    def write(line: str) -> None:
        print(line, flush=True)  # noqa: T201

    limit = model.hparams[model.reply_setting] if model.reply_setting else None
    print(introduction(model, limit), file=None if terminal else sys.stderr, flush=True)
    if terminal:
        write(HELP)
    ids = model.encoder().ids
    lines = typed() if terminal else sys.stdin

    def is_cut(text: str) -> bool:
        return limit is not None and len(ids(text)) >= NEARLY * limit

    drop = getattr(datamodule, "too_long", "error") == "drop"
    chat(model, opening, lines, write, terminal=terminal, is_cut=is_cut, drop=drop)


@torch.no_grad()
def introduction(model: Any, limit: int | None) -> str:
    """Return who talks, how long a reply may be, and how long a full one takes at least.

    The time is that of one token, run alone behind another one. A method that names no limit says
    how long a token takes.
    """
    parameters = sum(p.numel() for p in model.lm.parameters())
    token = torch.zeros(1, 1, dtype=torch.long, device=model.lm.device)
    seconds = 0.0
    for _ in range(2):  # the first one warms up
        start = time.monotonic()
        model.lm(input_ids=token).logits[0, -1].argmax().item()
        seconds = time.monotonic() - start
    responder, name = getattr(model, "responder", None), model.backbone.name
    if responder is not None:
        name += f", replies by {responder.backbone.name}"
    who = (
        f"{type(model).__name__} on {name} ({parameters / 1e6:.0f} M parameters, "
        f"{model.lm.device.type})"
    )
    if limit is None:
        return f"{who}; at least {seconds:.2f} s a token"
    return (
        f"{who}; replies of up to {limit} tokens, in whole sentences, at "
        f"least {limit * seconds:.0f} s for a full one"
    )
