"""Walk FiSMiness' state machine along conversations with language models, equations (2) to (4).

All conversations take their turn k together. What is appended to a conversation stays in its text;
a question and its answer do not (`zoo.decoding.shared_context`):

    s0          append the seeker's message
    s0 -> s1    ask for the emotion, append it
    s1 -> s2    ask for the strategy, append it
    s2 -> s3    ask for the reply if this turn is to be answered; append the reply with which the
                dialogue goes on, or after its last turn the model's own

A single pass asks one question instead of three. A turn that is not to be answered asks only for
the labels that are not known: from an earlier walk, or with `oracle` from the annotation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from zoo.decoding.shared_context import SharedContext
from zoo.methods.fisminess.conversations import (
    ActionModel,
    Conversation,
    StateKey,
    TurnAnswer,
    group,
)
from zoo.methods.fisminess.encoder import ALL, FIELDS, SPARE, TASKS, answer_start
from zoo.methods.fisminess.machine import EMOTION, MESSAGE, REPLY, STRATEGY, line, opening
from zoo.support.decisions import Decision
from zoo.support.labels import LABEL_TOKENS, Labels
from zoo.support.read_reply import read_reply
from zoo.support.reply import SupportReply

LabelDecoding = Literal["constrained", "likelihood", "free"]
Answers = dict[int, TurnAnswer]  # number of a conversation -> the answer to its turn


@dataclass
class Walk:
    """One walk along the dialogues of some decisions.

    Attributes:
        models: Action -> the model that decides it. Every model reads the whole text.
        decisions: What is to be answered.
        forced: For each decision, a strategy to use instead of choosing; None for none.
        closed: How labels are decoded.
        single_pass: One question a turn instead of three.
        oracle: Annotated labels in the history, where there are some.
        known: (emotion, strategy) that earlier walks decoded, by state, and by state, strategy and
            reply; new ones are added.
        max_new_tokens: Limit of a reply.
        temperature: Of the reply.
        everyone_done: See `zoo.decoding.shared_context.SharedContext`.
    """

    models: dict[str, ActionModel]
    decisions: Sequence[Decision]
    forced: Sequence[str] | None
    closed: LabelDecoding
    single_pass: bool
    oracle: bool
    known: dict[StateKey, tuple[str, str]]
    max_new_tokens: int
    temperature: float
    everyone_done: Callable[[bool], bool]

    def __post_init__(self) -> None:
        encoder = self.models[EMOTION].encoder
        self.names: dict[str, Labels] = {EMOTION: encoder.emotions, STRATEGY: encoder.labels}
        self.conversations = group(self.decisions, encoder, apart=self.forced is not None)
        self.contexts = {id(model): self._open_context(model) for model in self.models.values()}
        self.replies: dict[int, SupportReply] = {}  # by index of the decision

    def run(self) -> list[SupportReply]:
        """Return the answer to each decision."""
        num_turns = max(len(conversation.rounds) for conversation in self.conversations)
        for k in count():
            if self.everyone_done(k >= num_turns):
                break
            self._take_turn(k)
        return [self.replies[index] for index in range(len(self.decisions))]

    # -- one turn: s0 to s3 --------------------------------------------------------------------

    def _take_turn(self, k: int) -> None:
        """Walk turn k of every conversation that has it."""
        live = {r: c for r, c in enumerate(self.conversations) if k < len(c.rounds)}
        for r, conversation in live.items():
            if k == 0:
                self._append(r, line(REPLY, opening(conversation.last)))
            self._move(r, MESSAGE, conversation.rounds[k].message)
        answers = {r: self._known_answer(conversation, k) for r, conversation in live.items()}
        if self.everyone_done(all(answer.is_known for answer in answers.values())):
            self._move_by_labels(answers)
        else:
            self._decide(k, answers)
        for r, conversation in live.items():
            ended = k + 1 == len(conversation.rounds)
            self._move(r, REPLY, answers[r].reply if ended else conversation.rounds[k].reply)

    def _known_answer(self, conversation: Conversation, k: int) -> TurnAnswer:
        """Return what is known of a turn before the model is asked."""
        turn, index = conversation.rounds[k], next(iter(conversation.asked.get(k, [])), None)
        key = conversation.key(k)
        replied = (*key, turn.strategy, turn.reply)  # of several tries, the one that was kept
        emotion, strategy = self.known.get(replied, self.known.get(key, ("", "")))
        if self.oracle:
            emotion, strategy = turn.emotion or emotion, turn.strategy or strategy
        labels = {EMOTION: emotion, STRATEGY: strategy}
        if index is None:
            return TurnAnswer(labels)
        forced = "" if self.forced is None else self.forced[index]
        return TurnAnswer(labels, True, forced, self.decisions[index].target.text)

    def _decide(self, k: int, answers: Answers) -> None:
        """Ask for what is not known of a turn, move to s2, and keep labels and replies."""
        contexts, conversations = self.contexts.values(), self.conversations
        states = [context.save() for context in contexts]
        machines = {r: conversations[r].machine for r in answers}
        if self.single_pass:
            calls = self._ask_one_question(answers)
        else:
            calls = self._ask_three_questions(answers)
        for r, answer in answers.items():
            if not answer.forced:
                labels = answer.labels[EMOTION], answer.labels[STRATEGY]
                key = conversations[r].key(k)
                self.known.setdefault(key, labels)
                if answer.asked:
                    self.known[*key, answer.labels[STRATEGY], answer.reply] = labels
            for index in conversations[r].asked.get(k, []):
                self.replies[index] = answer.as_reply(calls)
        if self.oracle:  # annotated labels take the place of the decoded ones in the text
            for context, state in zip(contexts, states, strict=True):
                context.restore(state)
            for r, machine in machines.items():
                conversations[r].machine = machine
            self._move_by_labels({r: self._known_answer(conversations[r], k) for r in answers})

    def _ask_three_questions(self, answers: Answers) -> int:
        """Ask for emotion, strategy and reply, equation (4); return the number of questions."""
        for action in (EMOTION, STRATEGY):
            forced = {r for r, a in answers.items() if a.forced and action == STRATEGY}
            unknown = [r for r, a in answers.items() if a.asked or not a.labels[action]]
            decoded = self._choose_label(action, [r for r in unknown if r not in forced])
            for r, answer in answers.items():
                name, was_read = decoded.get(r, (answer.labels[action], True))
                answer.labels[action] = answer.forced if r in forced else name
                answer.failed += [] if was_read else [action]
                self._move(r, action, answer.labels[action])
        begun = {r: " " for r, answer in answers.items() if answer.asked}
        self._ask_reply(REPLY, answers, begun)
        self._score_annotated_reply(REPLY, answers, begun)
        return 3 - (self.forced is not None)

    def _ask_one_question(self, answers: Answers) -> int:
        """Ask for all lines of a single pass; return the number of questions.

        With a forced strategy, the reply is written again after the same emotion.
        """
        rows = [r for r, answer in answers.items() if not answer.is_known]
        limit = self._model(ALL).encoder.answer_tokens
        outputs = self._ask(ALL, rows, limit, temperature=self.temperature)
        emotions, strategies = self.names[EMOTION], self.names[STRATEGY]
        for r, words in outputs.items():
            answer, reading = answers[r], read_reply(words, strategies, f"{FIELDS[EMOTION]}:")
            emotion = emotions.find(reading.emotion)
            strategy = answer.forced or reading.strategy
            answer.labels[EMOTION] = emotion or emotions.fallback
            answer.labels[STRATEGY] = strategy or strategies.fallback
            were_read = zip(TASKS, (emotion, strategy, reading.given), strict=True)
            answer.failed = [task for task, was_read in were_read if not was_read]
            answer.words, answer.reply = words, reading.reply
        asked = {r: answer.labels for r, answer in answers.items() if answer.asked}
        begun = {r: answer_start(names[EMOTION], names[STRATEGY]) for r, names in asked.items()}
        if self.forced is not None:
            self._ask_reply(ALL, answers, begun)
        self._score_annotated_reply(ALL, answers, begun)
        self._move_by_labels(answers)
        return 1 + (self.forced is not None)

    # -- questions and what is read of the outputs ---------------------------------------------

    def _choose_label(self, action: str, rows: list[int]) -> dict[int, tuple[str, bool]]:
        """Return a label for each row, and whether it was read (else it is the fallback)."""
        labels = self.names[action]
        if self.closed == "likelihood":
            if self.everyone_done(not rows):
                return {}
            questions = self._questions(action, rows)
            scores = self._context(action).score_choices(questions, labels.names)
            best = scores.argmax(1).tolist()
            return {r: (labels.names[best[r]], True) for r in rows}
        choices = labels.names if self.closed == "constrained" else None
        outputs = self._ask(action, rows, LABEL_TOKENS, choices=choices)
        names = {r: labels.find(words) for r, words in outputs.items()}
        return {r: (name or labels.fallback, name is not None) for r, name in names.items()}

    def _ask_reply(self, task: str, answers: Answers, begun: dict[int, str]) -> None:
        """Ask for the replies that go on from what has begun."""
        options: dict[str, Any] = {"begun": begun, "temperature": self.temperature}
        outputs = self._ask(task, list(begun), self.max_new_tokens, **options)
        for r, words in outputs.items():
            answer, reply = answers[r], read_reply(words, self.names[STRATEGY]).reply
            answer.words, answer.reply = words, reply
            answer.failed = [kind for kind in answer.failed if kind != REPLY]
            answer.failed += [] if reply else [REPLY]

    def _score_annotated_reply(self, task: str, answers: Answers, begun: dict[int, str]) -> None:
        """Keep how likely the annotated replies are after what has begun."""
        if self.everyone_done(not begun):
            return
        rows = range(len(self.conversations))
        starts = [begun.get(r, "") for r in rows]
        golds = [answers[r].gold if r in begun else "" for r in rows]
        scores = self._context(task).answer_nll(self._questions(task, begun), starts, golds)
        for r in begun:
            answers[r].nll, answers[r].tokens = scores[r]

    def _ask(
        self,
        task: str,
        rows: Sequence[int],
        limit: int,
        begun: dict[int, str] | None = None,
        **options: Any,
    ) -> dict[int, str]:
        """Return the outputs of some rows for a task, or how those go on that have begun."""
        if self.everyone_done(not rows):
            return {}
        questions = self._questions(task, rows, begun)
        outputs = self._context(task).ask(questions, max_new_tokens=limit, **options)
        return {r: outputs[r] for r in rows}

    def _questions(
        self, task: str, rows: Collection[int], begun: dict[int, str] | None = None
    ) -> list[str | None]:
        """Return the question of each conversation, None for those that are not asked."""
        question, begun = self._model(task).encoder.questions[task], begun or {}
        return [
            question + begun.get(r, "").rstrip(" ") if r in rows else None
            for r in range(len(self.conversations))
        ]

    # -- the text of the conversations ---------------------------------------------------------

    def _move(self, r: int, action: str, text: str) -> None:
        """Move to the next state, and append the line of the action."""
        conversation = self.conversations[r]
        conversation.machine = conversation.machine.move(action, text)
        self._append(r, line(action, text), joined=action in (EMOTION, STRATEGY))

    def _move_by_labels(self, answers: Answers) -> None:
        """Move from s0 to s2."""
        for r, answer in answers.items():
            for action in (EMOTION, STRATEGY):
                self._move(r, action, answer.labels[action])

    def _append(self, r: int, text: str, *, joined: bool = False) -> None:
        for context in self.contexts.values():
            context.append(r, text, joined=joined)

    def _model(self, task: str) -> ActionModel:
        """Return the model of a task; that of the reply for a single pass."""
        return self.models[REPLY if task == ALL else task]

    def _context(self, task: str) -> SharedContext:
        return self.contexts[id(self._model(task))]

    def _open_context(self, model: ActionModel) -> SharedContext:
        encoder = model.encoder
        return SharedContext(
            model.lm,
            encoder.tokenizer,
            [encoder.head(conversation.last) for conversation in self.conversations],
            stop=encoder.chat.end,
            window=encoder.max_length,
            room=encoder.room,
            spare=SPARE,
            everyone_done=self.everyone_done,
        )
