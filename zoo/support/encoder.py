"""Prompts of methods that write a supporter's turn: system, conversation, task; one example each.

The conversation is told in lines, so several tasks on it share what was computed
(`zoo/decoding/shared_context.py`). All methods that are compared keep the same part of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from zoo.encoding import NO_HEAD, Example, join, unlearned
from zoo.errors import InputError, TooLongError
from zoo.prompts.base import PromptEncoder
from zoo.prompts.truncation import first_kept
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn
from zoo.support.decisions import Decision, decisions, transcript
from zoo.support.labels import SUPPORT, Labels

SPEAK = 0  # the one head
SPEAKS = "Supporter:"  # begins a plain reply: small models otherwise go on as the seeker

TURN = re.compile(
    r"(?:^[\s*_`#>-]*|(?<=[.!?] )|(?<=[.!?][\"'] ))(?:\[(?P<bare>Seeker|Supporter)\](?!,):?"
    r"|[*_`]*(?P<speaker>Seeker|Supporter|User|Assistant)(?: \((?P<note>[^()\n]*)\))?[*_`]*"
    r"\s*:[*_`]*)",
    re.M,
)
"""What begins a turn: a speaker at the start of a line or after a sentence."""
COPIED = re.compile(r"^[\s*_`#>-]*Dialogue(?: so far)?:", re.M)


def speaker_of(mark: re.Match[str]) -> str:
    """Return who speaks after a mark of `TURN`: `seeker` or `supporter`, also as chat roles."""
    name = (mark["speaker"] or mark["bare"]).lower()
    return {"user": SEEKER, "assistant": SUPPORTER}.get(name, name)


@dataclass
class TalkEncoder(PromptEncoder):
    """Encoder of prompts for the supporter's next turn, with or without a target.

    Attributes:
        system: System turn.
        task: Asked after the conversation, in training and (by default) at inference.
        begins: What the answer to it is begun with; a target then begins with a space.
        labels: The strategies.
        target: Text to learn at a decision, None where there is none; None learns nothing.
        mark: Writes the strategy of a past supporter turn before its text; None leaves it out.
        reserve: Tokens of it that are kept free for tasks, drafts and the reply; the oldest lines
            give way.
    """

    records: ClassVar[tuple[type, ...]] = (Dialogue,)

    system: str
    task: str
    begins: str = SPEAKS
    labels: Labels = SUPPORT
    target: Callable[[Decision], str | None] | None = None
    mark: Callable[[str], str] | None = None
    reserve: int = 1024
    max_length: int = field(default=4096, kw_only=True)

    def __call__(self, record: Dialogue) -> list[Example]:
        """Return an example for each decision; without a target it is only to be answered.

        Raises:
            InputError: A strategy is unknown or some are missing, or a line does not fit.
        """
        all_decisions = decisions(record, self.labels, need_strategies=has_strategies(record))
        pieces = [self.ids(line) for line in self.lines(all_decisions[-1])]
        return [
            self._example(decision, pieces[: len(decision.turns)]) for decision in all_decisions
        ]

    def head(self, decision: Decision) -> str:
        """Return what opens a prompt: the system turn and what is known of the situation."""
        known = {"Problem": decision.problem, "Situation": decision.situation}
        facts = "".join(f"{name}: {text}\n" for name, text in known.items() if text)
        opened = self.system_turn(self.system) + self.chat.open("user")
        return opened + facts + "Dialogue so far:\n"

    def lines(self, decision: Decision) -> list[str]:
        """Return what was said, a line for each turn."""
        return [self._line(turn) for turn in decision.turns]

    def question(self, task: str | None = None, begins: str | None = None) -> str:
        """Return a task, the end of the user's turn, and how the assistant's begins."""
        begun = self.begins if begins is None else begins
        asked = f"\n{task or self.task}" + self.chat.close("user")
        return asked + self.chat.open("assistant") + begun

    def _line(self, turn: Turn) -> str:
        if self.mark is not None and turn.speaker == SUPPORTER and turn.strategy:
            turn = replace(turn, text=f"{self.mark(turn.strategy)} {turn.text}")
        return transcript((turn,), strategies=False) + "\n"

    def _example(self, decision: Decision, pieces: list[list[int]]) -> Example:
        head, question = self.ids(self.head(decision)), self.ids(self.question())
        text = self.target(decision) if self.target else None
        learned: list[int] = []
        if text is not None:
            learned = self.ids(" " * bool(self.begins) + text + self.chat.close("assistant"))
        room = max(self.reserve, len(question) + len(learned))
        try:
            lengths = [len(piece) for piece in pieces]
            first = first_kept(len(head), lengths, self.max_length - room)
        except TooLongError as error:
            raise TooLongError(f"{decision.id}: {error}") from error
        self._shortened += first > 0
        ids = [*head, *(token for piece in pieces[first:] for token in piece), *question]
        if learned:
            return join([(ids, NO_HEAD, 0.0), (learned, SPEAK, 1.0)], record=decision)
        return unlearned(ids, decision)


def has_strategies(record: Dialogue) -> bool:
    """Return whether any supporter turn after the first turn has a strategy."""
    return any(turn.strategy for turn in record.turns[1:] if turn.speaker == SUPPORTER)


def require_strategies(record: Dialogue, labels: Labels) -> None:
    """Raise `InputError` for a dialogue to learn from that has no strategies."""
    if not has_strategies(record):
        raise InputError(
            f"{record.id}: no supporter turn has a {labels.kind}; such data is for validate, test "
            f"and predict"
        )


def one_turn(words: str) -> str:
    r"""Return the first turn of what was written as a supporter; empty if it is the seeker's.

    The line of the prompt that opens its conversation, copied by a model, ends what is said.

    Example:
        >>> one_turn(" Oh no.\nSeeker: Yes.\nSupporter: I see."), one_turn("Seeker: Yes.")
        ('Oh no.', '')
    """
    words = COPIED.split(words, maxsplit=1)[0]
    start, speaker = 0, SUPPORTER
    for mark in TURN.finditer(words):
        if words[start : mark.start()].strip():
            break
        start, speaker = mark.end(), speaker_of(mark)
    after = TURN.search(words, start)
    text = words[start : after.start() if after else len(words)].strip()
    return text if speaker == SUPPORTER else ""


def read_field(path: Path, name: str, key: str) -> dict[str, str]:
    """Return `id` -> a field, of a file such as `python -m zoo predict` writes.

    Args:
        path: JSONL file.
        name: The field.
        key: Setting that names the file, for errors.

    Raises:
        InputError: The file cannot be read, or a line lacks a field.
    """
    try:
        rows = path.read_text("utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{key}: cannot read {path} ({error})") from error
    by_id = {}
    for number, row in enumerate(rows, start=1):
        try:
            item = json.loads(row)
            by_id[str(item["id"])] = str(item[name])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}:{number}: expected an object with id and {name}") from error
    return by_id
