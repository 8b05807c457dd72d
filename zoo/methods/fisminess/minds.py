"""Who plays the actions of FiSMiness' machine: models, each with the texts of all dialogues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from zoo.decoding.shared_context import ContextState, SharedContext
from zoo.methods.fisminess.encoder import ALL, SPARE, WalkEncoder
from zoo.methods.fisminess.machine import REPLY
from zoo.methods.fisminess.routes import Row


@dataclass(frozen=True, slots=True)
class ActionModel:
    """A language model, and the encoder of its tokenizer."""

    lm: Any
    encoder: WalkEncoder


class Minds:
    """The models of all actions; each is told everything, and asked what is its own.

    Args:
        players: Action -> who plays it.
        rows: The dialogues.
        everyone_done: See `zoo.decoding.shared_context.SharedContext`.
    """

    def __init__(
        self,
        players: dict[str, ActionModel],
        rows: Sequence[Row],
        everyone_done: Callable[[bool], bool],
    ) -> None:
        self.players, self.rows, self.everyone_done = players, rows, everyone_done
        self.branches = {id(mind): self._branch(mind) for mind in players.values()}

    def player(self, task: str) -> ActionModel:
        """Return who plays a task; a single pass is played by who replies."""
        return self.players[REPLY if task == ALL else task]

    def tell(self, r: int, text: str) -> None:
        """Append a piece to the text of a row."""
        for branch in self.branches.values():
            branch.append(r, text)

    def mark(self) -> dict[int, ContextState]:
        """Return where all texts are."""
        return {owner: branch.save() for owner, branch in self.branches.items()}

    def back(self, marks: dict[int, ContextState]) -> None:
        """Forget what was told after a mark."""
        for owner, branch in self.branches.items():
            branch.restore(marks[owner])

    def ask(
        self,
        task: str,
        rows: Sequence[int],
        limit: int,
        begun: Mapping[int, str] | None = None,
        **options: Any,
    ) -> dict[int, str]:
        """Return the answers of some rows to a task, or how those go on that have begun."""
        if self.everyone_done(not rows):
            return {}
        questions = self._questions(task, rows, begun)
        found = self._texts(task).ask(questions, max_new_tokens=limit, **options)
        return {r: found[r] for r in rows}

    def weigh(self, task: str, rows: Sequence[int], choices: Sequence[str]) -> torch.Tensor | None:
        """Return the mean log-probability of each choice, `(R, K)`; None if nobody has a row."""
        if self.everyone_done(not rows):
            return None
        return self._texts(task).score_choices(self._questions(task, rows), choices)

    def likelihood(
        self, task: str, begun: Mapping[int, str], golds: Mapping[int, str]
    ) -> dict[int, tuple[float, int]]:
        """Return how likely texts are after what the answers begin with: nats, tokens."""
        if self.everyone_done(not begun):
            return {}
        rows = range(len(self.rows))
        starts, texts = ([one.get(r, "") for r in rows] for one in (begun, golds))
        found = self._texts(task).answer_nll(self._questions(task, list(begun)), starts, texts)
        return {r: found[r] for r in begun}

    def _questions(
        self, task: str, rows: Sequence[int], begun: Mapping[int, str] | None = None
    ) -> list[str | None]:
        text = self.player(task).encoder.questions[task]
        starts = {r: (begun or {}).get(r, "").rstrip(" ") for r in rows}
        return [text + starts[r] if r in starts else None for r in range(len(self.rows))]

    def _texts(self, task: str) -> SharedContext:
        return self.branches[id(self.player(task))]

    def _branch(self, mind: ActionModel) -> SharedContext:
        encoder = mind.encoder
        return SharedContext(
            mind.lm,
            encoder.tokenizer,
            [encoder.head(row.last) for row in self.rows],
            stop=encoder.chat.end,
            window=encoder.max_length,
            room=encoder.room,
            spare=SPARE,
            everyone_done=self.everyone_done,
        )
