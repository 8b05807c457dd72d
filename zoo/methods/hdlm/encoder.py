"""Encoder of HdLM: plans to examples whose levels are learned by a head each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from zoo.encoding import NO_HEAD, Example, join
from zoo.errors import TooLongError
from zoo.markup import token_ids
from zoo.methods.hdlm.prompts import Emotions, Guide, Leveled, Plan, plans, role_names
from zoo.prompts.base import PromptEncoder
from zoo.records import Dialogue, LabelPath, Question, Taxonomy, Triple


@dataclass
class LevelEncoder(PromptEncoder):
    """Encoder of coarse-to-fine replies.

    Attributes:
        depth: Number of levels D.
        guide: What is decoded before the reply of a dialogue.
        emotions: Which emotions a guide chooses from; None for those of each dialogue's own.
        max_length: Window in tokens; of a longer conversation the oldest turns are left out, and
            of a longer text to classify its end, but not the classes after it. A question, a
            query or a last turn that does not fit is an error.
        max_new_tokens: Limit of a decoded free text.
        separate: Each level is an example of its own (the baseline of one call a level): its
            prompt holds what the calls before it were asked and have said.
    """

    records: ClassVar[tuple[type, ...]] = (LabelPath, Dialogue, Triple, Question)

    depth: int
    guide: tuple[Guide, ...] = ("strategy",)
    emotions: Emotions | None = None
    max_new_tokens: int = 256
    separate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.roles, self.subtask_roles = role_names(self.depth)
        self._rooms: dict[int, tuple[Taxonomy, int]] = {}  # by identity

    def __call__(self, record: Leveled) -> list[Example]:
        """Return the examples of a record; level i is learned by head i.

        Raises:
            InputError: See `zoo.methods.hdlm.prompts.plans`; or the levels alone fill the window.
        """
        planned = self.plans(record)
        if self.separate:
            return [self._up_to(plan, i, [i]) for plan in planned for i in range(self.depth)]
        return [self._up_to(plan, self.depth - 1, range(self.depth)) for plan in planned]

    def plans(self, record: Leveled) -> list[Plan]:
        """Return what is asked of a record."""
        return plans(record, self.depth, self.guide, self.emotions)

    def room(self, plan: Plan) -> int:
        """Return how many tokens to leave free for the levels and the subtasks between them."""
        if not isinstance(plan.record, LabelPath):
            return self.max_new_tokens + 32 * self.depth
        taxonomy = plan.record.taxonomy
        known, room = self._rooms.get(id(taxonomy), (None, 0))
        if known is not taxonomy:
            longest = [0] * self.depth
            for path, names in taxonomy.children.items():
                if len(path) < self.depth:
                    number = self.ids(str(len(names) - 1) + self.chat.close(self.roles[-1]))
                    size = len(self.between(plan, path)) + len(number)
                    longest[len(path)] = max(longest[len(path)], size)
            room = sum(longest)
            self._rooms[id(taxonomy)] = taxonomy, room
        return room

    def opening(self, plan: Plan, tail: int = 0) -> list[int]:
        """Return the ids of system and conversation, shortened to what the window leaves.

        Args:
            plan: What is asked.
            tail: Tokens that follow, if they are known to be more than `room`.

        Raises:
            TooLongError: The last turn, or nothing of the text to classify, fits.
        """
        budget = self.max_length - max(tail, self.room(plan))
        turns, tries = list(plan.turns), 0
        while turns:
            segments = self.chat.turn("system", plan.system, first=True)
            segments += [part for role, text in turns for part in self.chat.turn(role, text)]
            ids = self.segment_ids(segments)
            if len(ids) <= budget:
                self._shortened += tries > 0
                return ids
            tries += 1
            if len(turns) > 1:
                turns = turns[1:]
                continue
            role, text = turns[0]
            if plan.kept is None:
                break
            body = text.removesuffix(plan.kept)
            shorter = shorten(body, self.tokenizer, len(ids) - budget + 4)
            if not shorter:
                break
            turns = [(role, shorter + plan.kept)]
        raise TooLongError(f"{plan.id}: does not fit into the window max_length={self.max_length}")

    def between(self, plan: Plan, path: Sequence[str]) -> list[int]:
        """Return the ids from one level's end-of-turn to the next level's text."""
        text, level = "", len(path)
        if path:
            subtask = plan.subtask(path)
            if subtask:
                role = self.subtask_roles[level - 1]
                text = self.chat.open(role) + subtask + self.chat.close(role)
        return [*self.ids(text), *self.ids(self.chat.open(self.roles[level]))]

    def _up_to(self, plan: Plan, last: int, learned: Sequence[int]) -> Example:
        tail: list[tuple[list[int], int]] = []
        for level, text in enumerate(plan.gold[: last + 1]):
            tail.append((self.between(plan, plan.names[:level]), NO_HEAD))
            head = level if level in learned else NO_HEAD
            tail.append((self.ids(text + self.chat.close(self.roles[level])), head))
        return self._join(plan, tail)

    def _join(self, plan: Plan, tail: list[tuple[list[int], int]]) -> Example:
        opening = self.opening(plan, sum(len(ids) for ids, _ in tail))
        pieces = [(opening, NO_HEAD), *tail]
        return join([(ids, head, float(head != NO_HEAD)) for ids, head in pieces], record=plan)


def shorten(text: str, tokenizer: Any, tokens: int) -> str:
    """Return a text without its last `tokens` tokens, by words where it has spaces."""
    ids = token_ids(tokenizer, text)
    kept = ids[: max(0, len(ids) - tokens)]
    text = tokenizer.decode(kept).rstrip("\ufffd")  # part of a character
    return text.rpartition(" ")[0] or text
