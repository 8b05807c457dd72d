"""FiSMiness' machine, walked by language models along several dialogues at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Literal

from zoo.methods.fisminess.encoder import (
    ALL,
    FIELDS,
    LABEL_TOKENS,
    TASKS,
    answer_start,
)
from zoo.methods.fisminess.machine import EMOTION, MESSAGE, REPLY, STRATEGY, line
from zoo.methods.fisminess.minds import ActionModel, Minds
from zoo.methods.fisminess.routes import Row, StateKey, dialogues
from zoo.support.decisions import Decision
from zoo.support.labels import Labels
from zoo.support.read_reply import read_reply
from zoo.support.reply import SupportReply

LabelDecoding = Literal["constrained", "likelihood", "free"]
UNSCORED = (0.0, 0)


class Walk:
    """One walk along the dialogues of some states; every row takes every move.

    Args:
        players: Action -> who plays it.
        states: The decisions to walk to.
        forced: For each state, a strategy to use instead of choosing; None for none.
        closed: How labels are decoded.
        single_pass: One question a turn instead of three.
        oracle: Annotated labels in the history, where there are some.
        known: Labels that earlier walks found, by state; new ones are added.
        max_new_tokens: Limit of a reply.
        temperature: Of the reply.
        everyone_done: See `zoo.decoding.shared_context.SharedContext`.
    """

    def __init__(
        self,
        players: dict[str, ActionModel],
        states: Sequence[Decision],
        *,
        forced: Sequence[str] | None,
        closed: LabelDecoding,
        single_pass: bool,
        oracle: bool,
        known: dict[StateKey, tuple[str, str]],
        max_new_tokens: int,
        temperature: float,
        everyone_done: Callable[[bool], bool] = bool,
    ) -> None:
        self.closed, self.oracle, self.known = closed, oracle, known
        self.single_pass, self.forced = single_pass, forced
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.everyone_done = everyone_done
        encoder = players[EMOTION].encoder
        self.names: dict[str, Labels] = {EMOTION: encoder.emotions, STRATEGY: encoder.labels}
        self.rows = dialogues(states, encoder, apart=forced is not None)
        self.golds = [state.target.text for state in states]
        self.said: list[SupportReply | None] = [None] * len(states)
        self.minds = Minds(players, self.rows, everyone_done)

    def run(self) -> list[SupportReply]:
        """Return what is said in each state."""
        total = max(len(row.rounds) for row in self.rows)
        for k in count():
            if self.everyone_done(k >= total):
                break
            self._round(k)
        return [one for one in self.said if one is not None]

    def _round(self, k: int) -> None:
        """Take one turn of every dialogue that has it."""
        live = [r for r, row in enumerate(self.rows) if k < len(row.rounds)]
        for r in live:
            row = self.rows[r]
            if k == 0 and row.opening:
                self._tell(r, REPLY, row.opening)
            self._move(r, MESSAGE, row.rounds[k].message)
        kept = {r: self._history(self.rows[r], k) for r in live}
        wanted = [r for r in live if k in self.rows[r].wanted]
        found: dict[int, SupportReply] = {}
        if self.everyone_done(not wanted and all(all(labels) for labels in kept.values())):
            self._label(live, kept)
        else:
            found = self._walk(k, live, wanted, kept)
        for r in live:
            one = self.rows[r].rounds[k]
            goes_on = k + 1 < len(self.rows[r].rounds)
            self._move(r, REPLY, one.reply if goes_on else found[r].reply)

    def _walk(
        self, k: int, live: list[int], wanted: list[int], kept: dict[int, tuple[str, str]]
    ) -> dict[int, SupportReply]:
        """Ask what is not known of a round, and reply where that is wanted."""
        marks = self.minds.mark()
        machines = {r: self.rows[r].machine for r in live}
        found = (self._one_call if self.single_pass else self._three_calls)(k, live, wanted, kept)
        for r in wanted:
            for index in self.rows[r].wanted[k]:
                self.said[index] = found[r]
        if self.oracle:  # what was annotated takes the place of what was found
            self.minds.back(marks)
            for r in live:
                self.rows[r].machine = machines[r]
            self._label(live, {r: self._history(self.rows[r], k) for r in live})
        return found

    def _label(self, live: list[int], labels: dict[int, tuple[str, str]]) -> None:
        """Take the moves from s0 to s2 by known labels."""
        for r in live:
            for action, name in zip((EMOTION, STRATEGY), labels[r], strict=True):
                self._move(r, action, name)

    def _history(self, row: Row, k: int) -> tuple[str, str]:
        """Return the labels of a round that stay; empty where they are still to be found."""
        found = self.known.get(row.key(k), ("", ""))
        one = row.rounds[k]
        if not self.oracle:
            return found
        return one.emotion or found[0], one.strategy or found[1]  # found: data without labels

    def _three_calls(
        self, k: int, live: list[int], wanted: list[int], kept: dict[int, tuple[str, str]]
    ) -> dict[int, SupportReply]:
        labels: dict[int, list[str]] = {r: [] for r in live}
        failed: dict[int, list[str]] = {r: [] for r in live}
        for i, task in enumerate(TASKS[:2]):
            asking = [r for r in live if r in wanted or not kept[r][i]]
            found = self._choose(task, [r for r in asking if not self._force(task, r, k)])
            for r in live:
                name, understood = found.get(r, (kept[r][i], True))
                name = self._force(task, r, k) or name
                labels[r].append(name)
                failed[r] += [] if understood else [task]
                self._move(r, task, name)
        words = self.minds.ask(REPLY, wanted, self.max_new_tokens, temperature=self.temperature)
        replies = {r: self._reply(text) for r, text in words.items()}
        golds = self._gold(REPLY, k, dict.fromkeys(wanted, " "))
        for r in live:
            self._keep(r, k, labels[r])
            failed[r] += [REPLY] if r in wanted and not replies[r] else []
        calls = 3 - (self.forced is not None)
        return {
            r: said(
                *(labels[r], replies.get(r, ""), failed[r], calls),
                *(golds.get(r, UNSCORED), words.get(r)),
            )
            for r in live
        }

    def _one_call(
        self, k: int, live: list[int], wanted: list[int], kept: dict[int, tuple[str, str]]
    ) -> dict[int, SupportReply]:
        asking = [r for r in live if r in wanted or not all(kept[r])]
        limit = self.minds.player(ALL).encoder.answer_tokens
        words = self.minds.ask(ALL, asking, limit, temperature=self.temperature)
        labels, failed = dict(kept), dict.fromkeys(live, list[str]())
        replies, emotions = dict.fromkeys(live, ""), self.names[EMOTION]
        for r in asking:
            reading = read_reply(words[r], self.names[STRATEGY], f"{FIELDS[EMOTION]}:")
            emotion = emotions.find(reading.emotion)
            strategy = self._force(STRATEGY, r, k) or reading.strategy
            labels[r] = emotion or emotions.fallback, strategy or self.names[STRATEGY].fallback
            read = (emotion, strategy, reading.given)
            failed[r] = [task for task, there in zip(TASKS, read, strict=True) if not there]
            replies[r] = reading.reply
        begun = {r: answer_start(*labels[r]) for r in wanted}
        if self.forced is not None:  # the same emotion, another strategy: written anew from there
            heat = self.temperature
            words |= self.minds.ask(ALL, wanted, self.max_new_tokens, temperature=heat, begun=begun)
            replies |= {r: self._reply(words[r]) for r in wanted}
            for r in wanted:
                failed[r] = [task for task in failed[r] if task != REPLY]
                failed[r] += [] if replies[r] else [REPLY]
        golds = self._gold(ALL, k, begun)
        for r in live:
            self._label([r], {r: labels[r]})
            self._keep(r, k, labels[r])
        calls = 1 + (self.forced is not None)
        return {
            r: said(labels[r], replies[r], failed[r], calls, golds.get(r, UNSCORED), words.get(r))
            for r in live
        }

    def _reply(self, words: str) -> str:
        """Return a reply as all methods read it: up to the next turn, without tags."""
        return read_reply(words, self.names[STRATEGY]).reply

    def _gold(self, task: str, k: int, begun: dict[int, str]) -> dict[int, tuple[float, int]]:
        """Return how likely the annotated replies are, after what the answers begin with."""
        golds = {r: self.golds[self.rows[r].wanted[k][0]] for r in begun}
        return self.minds.likelihood(task, begun, golds)

    def _keep(self, r: int, k: int, labels: Sequence[str]) -> None:
        """Remember the labels of a state for later walks; in a walk by force nothing is found."""
        if self.forced is None:
            self.known.setdefault(self.rows[r].key(k), (labels[0], labels[1]))

    def _force(self, task: str, r: int, k: int) -> str:
        """Return the strategy to use at a state; empty to choose one."""
        if self.forced is None or task != STRATEGY or k not in self.rows[r].wanted:
            return ""
        return self.forced[self.rows[r].wanted[k][0]]

    def _choose(self, task: str, rows: list[int]) -> dict[int, tuple[str, bool]]:
        """Return a label for each row, and whether the model's words meant one."""
        labels = self.names[task]
        if self.closed == "likelihood":
            scores = self.minds.weigh(task, rows, labels.names)
            best = [] if scores is None else scores.argmax(1).tolist()
            return {r: (labels.names[best[r]], True) for r in rows}
        choices = labels.names if self.closed == "constrained" else None
        words = self.minds.ask(task, rows, LABEL_TOKENS, choices=choices)
        names = {r: labels.find(text) for r, text in words.items()}
        return {r: (name or labels.fallback, name is not None) for r, name in names.items()}

    def _move(self, r: int, action: str, text: str) -> None:
        self.rows[r].machine = self.rows[r].machine.move(action, text)
        self._tell(r, action, text)

    def _tell(self, r: int, action: str, text: str) -> None:
        self.minds.tell(r, line(action, text))


def said(
    labels: Sequence[str],
    reply: str,
    failed: Sequence[str],
    calls: int,
    gold: tuple[float, int],
    words: str | None,
) -> SupportReply:
    """Return what a walk found; `gold`: likelihood and tokens of the annotated reply."""
    (emotion, strategy), (nll, tokens) = labels, gold
    steps = (("walk", f"s0 -{emotion}-> s1 -{strategy}-> s2 -reply-> s3"),)
    counted: dict[str, Any] = {"calls": calls, "nll": nll, "tokens": tokens}
    return SupportReply(
        reply, strategy, emotion, steps, words or "", failed=tuple(failed), **counted
    )
