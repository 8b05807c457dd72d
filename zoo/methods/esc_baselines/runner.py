"""Recipes of the emotional support baselines, followed along several conversations at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.decoding.shared_context import SharedContext
from zoo.methods.esc_baselines.recipes import Call
from zoo.support.labels import Labels
from zoo.support.read_reply import read_points, read_reply
from zoo.support.reply import SupportReply

POINTS = 3  # of a list
HIDDEN = ("reply", "strategy", "emotion")  # answers that have a place of their own


@dataclass
class RecipeState:
    """What is known of a conversation.

    Attributes:
        filled: Name -> text that tasks may quote: the lists, then the answers.
        failed: Kinds of labels that could not be read.
        words: What the model wrote last where a reply was asked for.
        begun: What of it stands before the reply.
        drafted: Strategy of a draft.
        gold: Negative log-likelihood of the annotated reply there in nats, and its tokens.
    """

    filled: dict[str, str]
    answers: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    words: str = ""
    begun: str = ""
    drafted: str | None = None
    gold: tuple[float, int] = (0.0, 0)

    def fill(self, task: str, **more: str) -> str:
        """Return a task with texts in their places; braces inside a text stay as they are."""
        known = self.filled | self.answers | more
        return re.sub(r"\{(\w+)\}", lambda place: known[place[1]], task)


@dataclass
class RecipeRunner:
    """Follows a recipe, all conversations call by call.

    Attributes:
        context: The conversations.
        question: Makes a task, and what the answer begins with, what the model is asked.
        labels: The strategies.
        emotions: The emotions.
        retrieve: Returns what is found for each conversation.
        max_new_tokens: Limit of a reply, and of what else is asked for; see `Call.limit`.
        temperature: 0 is greedy. Votes are greedy.
    """

    context: SharedContext
    question: Callable[[str, str], str]
    labels: Labels
    emotions: Labels
    retrieve: Callable[[], list[str]]
    max_new_tokens: int
    temperature: float

    def run(
        self, recipe: Sequence[Call], filled: dict[str, str], golds: Sequence[str]
    ) -> list[SupportReply]:
        """Return what is said in each conversation.

        Args:
            recipe: The calls.
            filled: Texts that tasks may quote.
            golds: The annotated replies, to be scored; empty where there are none.

        Raises:
            InputError: A conversation does not fit the window.
        """
        states, calls = [RecipeState(filled) for _ in golds], 0
        for call in recipe:
            if call.reads == "found":
                texts = self.retrieve()
            else:
                texts = self._every_point(call, states) if call.reads == "each" else []
                texts = texts or self._ask(call, states)
                calls += POINTS if call.reads == "each" else 1
            for state, text in zip(states, texts, strict=True):
                self._take(call, state, text)
            if call.reads == "reply":
                begun = [state.begun for state in states]
                asked = [self._asked(call, state) for state in states]
                scores = self.context.answer_nll(asked, begun, golds)
                for state, score in zip(states, scores, strict=True):
                    state.gold = score
        return [as_reply(state, calls) for state in states]

    def _asked(self, call: Call, state: RecipeState, **more: str) -> str:
        return self.question(state.fill(call.task, **more), call.begins)

    def _ask(self, call: Call, states: list[RecipeState]) -> list[str]:
        votes = call.reads == "vote"
        return self.context.ask(
            [self._asked(call, state) for state in states],
            max_new_tokens=call.limit(self.max_new_tokens),
            choices=[str(i + 1) for i in range(POINTS)] if votes else None,
            temperature=0.0 if votes else self.temperature,
        )

    def _every_point(self, call: Call, states: list[RecipeState]) -> list[str]:
        """Return each state's points, written out one by one and joined."""
        points = [read_points(state.answers["skeleton"], POINTS) for state in states]
        texts: list[list[str]] = [[] for _ in states]
        for i in range(POINTS):
            asked = [
                self._asked(call, state, point=listed[i]) if i < len(listed) else None
                for state, listed in zip(states, points, strict=True)
            ]
            limit, temperature = call.limit(self.max_new_tokens), self.temperature
            new = self.context.ask(asked, max_new_tokens=limit, temperature=temperature)
            for written, text in zip(texts, new, strict=True):
                written.append(" ".join(read_reply(text, self.labels, call.begins).reply.split()))
        return [" ".join(part for part in written if part) for written in texts]

    def _take(self, call: Call, state: RecipeState, text: str) -> None:
        """Keep an answer, and what could not be read of it."""
        answers = state.answers
        if call.reads in ("emotion", "strategy"):
            labels = self.labels if call.reads == "strategy" else self.emotions
            name = labels.find(text)
            text = name or labels.fallback
            state.failed += [] if name else [call.reads]
        elif call.reads == "points":
            points = read_points(text, POINTS)
            text = "\n".join(f"{i}. {point}" for i, point in enumerate(points, start=1))
        elif call.reads == "vote":
            listed = read_points(answers[f"{call.name}s"], POINTS)
            text = listed[min(int(text), len(listed)) - 1]
        elif call.reads in ("reply", "each", "draft"):
            text = self._read(call, state, text)
        answers[call.name] = text

    def _read(self, call: Call, state: RecipeState, text: str) -> str:
        """Return the reply in an answer, or the draft before it; keep strategy and beginning."""
        answers = state.answers
        state.words = text
        reply, strategy, state.begun, given, _ = read_reply(text, self.labels, call.begins)
        if call.reads == "draft":
            state.drafted = strategy
            return f"[{strategy}] {reply}" if strategy else reply
        if not reply and "draft" in answers:
            reply = read_reply(answers["draft"], self.labels).reply
        state.failed += [] if given else ["reply"]
        if "strategy" not in answers:  # else chosen by a call of its own
            strategy = strategy or state.drafted
            answers["strategy"] = strategy or self.labels.fallback
            state.failed += [] if strategy else ["strategy"]
        return reply


def as_reply(state: RecipeState, calls: int) -> SupportReply:
    """Return the reply of a conversation, with the recipe's other answers as steps."""
    reply, strategy, emotion = (state.answers.get(name, "") for name in HIDDEN)
    steps = tuple((name, text) for name, text in state.answers.items() if name not in HIDDEN)
    nll, tokens = state.gold
    failed = tuple(state.failed)
    counted: dict[str, Any] = {"failed": failed, "calls": calls, "nll": nll, "tokens": tokens}
    return SupportReply(reply, strategy, emotion, steps, words=state.words, **counted)
