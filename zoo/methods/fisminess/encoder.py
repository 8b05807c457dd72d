"""FiSMiness' wording, and its encoder: three examples a turn, or one that holds all three.

The layout is inferred; the paper's prompts are unknown. A prompt is the description with the lists
to choose from, the state of the machine as text, and the task of the action: three prompts of a
turn differ in their ends alone. A reply is begun with the supporter's name, as plain replies are in
all methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from zoo.encoding import NO_HEAD, Example, join, unlearned
from zoo.errors import InputError, TooLongError
from zoo.methods.fisminess.machine import (
    EMOTION,
    MESSAGE,
    REPLY,
    STRATEGY,
    Round,
    line,
    opening,
    rounds,
)
from zoo.prompts.base import PromptEncoder
from zoo.prompts.truncation import first_kept
from zoo.records import Dialogue
from zoo.support.decisions import Decision, decisions, description
from zoo.support.encoder import SPEAKS, has_strategies, require_strategies
from zoo.support.labels import LABEL_TOKENS, SUPPORT, Labels

SYSTEM = (
    "You support a person in distress. In every turn you first recognise the seeker's emotion, "
    "then choose a support strategy, then reply."
)
ALL = "all"  # the task of a single pass
SPARE = 0.25  # of the dialogue's room is freed when a dialogue outgrows it
TASKS = (EMOTION, STRATEGY, REPLY)  # head i learns task i
FIELDS = {EMOTION: "Emotion", STRATEGY: "Strategy", REPLY: "Response"}


def tasks(labels: Labels) -> dict[str, str]:
    """Return what is asked for each action; the lists to choose from open the prompt."""
    kind = labels.kind
    return {
        EMOTION: "Task: name the emotion that the seeker feels now.",
        STRATEGY: f"Task: name the {kind} that the supporter should use next.",
        REPLY: f"Task: write what the supporter says next, by the {kind} above, in one or two "
        f"sentences.",
        ALL: f"Task: write three lines: `Emotion:` and the emotion that the seeker feels now; "
        f"`Strategy:` and the {kind} that the supporter should use next; `Response:` and what the "
        f"supporter says by it, in one or two sentences.",
    }


def lists(labels: Labels, emotions: Labels) -> str:
    """Return the emotions, and the strategies with their definitions."""
    listed = "".join(f"\n- {name}: {text}" for name, text in labels.definitions.items())
    return f"Emotions: {', '.join(emotions.names)}.\nStrategies:{listed}"


def answer_start(emotion: str, strategy: str) -> str:
    """Return the target of a single pass up to its reply."""
    fields = {EMOTION: emotion, STRATEGY: strategy}
    return "".join(f"{FIELDS[t]}: {text}\n" for t, text in fields.items()) + f"{FIELDS[REPLY]}: "


@dataclass
class WalkEncoder(PromptEncoder):
    """Encoder of the three tasks of every turn.

    Attributes:
        labels: The strategies.
        emotions: The emotions.
        single_pass: One example a turn instead of three.
        annotated: Emotions are those of the seeker's turns, not of the dialogue.
        given: Name of a decision -> its emotion, instead of annotated ones; None for those.
        max_length: Window in tokens; the oldest lines are left out, many at a time.
        max_new_tokens: Tokens to keep free for a reply.
    """

    records: ClassVar[tuple[type, ...]] = (Dialogue,)

    labels: Labels = SUPPORT
    emotions: Labels = field(kw_only=True)
    single_pass: bool = False
    annotated: bool = False
    given: Mapping[str, str] | None = None
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        tail = self.chat.close("user") + self.chat.open("assistant")
        self.questions: dict[str, str] = {k: f"\n{t}" + tail for k, t in tasks(self.labels).items()}
        self.questions[REPLY] += SPEAKS
        asked = (ALL,) if self.single_pass else TASKS
        self.asking = max(len(self.ids(self.questions[task])) for task in asked)
        names = () if self.single_pass else ((EMOTION, self.emotions), (STRATEGY, self.labels))
        self.naming = sum(
            max(len(self.ids(line(task, name))) for name in labels.names) for task, labels in names
        )

    @property
    def room(self) -> int:
        """Tokens to keep free for the longest task with its answer."""
        return self.asking + self.answer_tokens + 1

    @property
    def answer_tokens(self) -> int:
        """Limit of an answer: of a reply, in a single pass with the fields before it."""
        return self.max_new_tokens + (3 * LABEL_TOKENS if self.single_pass else 0)

    def study(self, records: Sequence[Dialogue], split: str) -> None:
        """Refuse to learn from dialogues without strategies or emotions.

        Raises:
            InputError: A training dialogue has none, or an unknown one.
        """
        for record in records if split == "train" else ():
            require_strategies(record, self.labels)
            self.rounds(decisions(record, self.labels)[-1], strict=True)

    def __call__(self, record: Dialogue) -> list[Example]:
        """Return the examples of every turn; without a label they are only to be answered.

        Raises:
            InputError: A strategy is unknown or some are missing, or a line does not fit the
                window.
        """
        all_decisions = decisions(record, self.labels, need_strategies=has_strategies(record))
        turns = self.rounds(all_decisions[-1])
        stops = [len(self.before(all_decisions[-1], turns[: k + 1])) for k in range(len(turns))]
        pieces = [self.ids(text) for text in self.before(all_decisions[-1], turns)]
        examples = []
        for decision, turn, stop in zip(all_decisions, turns, stops, strict=True):
            head = self.ids(self.head(decision))
            if turn.strategy and turn.emotion:
                examples += self._learned(decision, turn, head, pieces[:stop])
            else:
                examples.append(self._bare(decision, head, pieces[:stop]))
        return examples

    def rounds(self, decision: Decision, *, strict: bool = False) -> list[Round]:
        """Return the turns up to a decision, with emotions in their canonical spelling.

        Args:
            decision: The last turn.
            strict: A turn with a strategy needs an emotion; else an unknown one is left empty.

        Raises:
            InputError: An emotion is unknown or missing, and `strict`.
        """
        turns = []
        for turn in rounds(decision, annotated=self.annotated):
            emotion = turn.emotion if self.given is None else self.given.get(turn.id, "")
            if not (strict and turn.strategy):
                emotion = self.emotions.known(emotion) or ""
            elif self.given is not None and not emotion:
                raise InputError(f"{turn.id}: no emotion for it in the file model.predicted")
            elif not emotion:
                raise InputError(f"{turn.id}: no emotion is annotated; see model.emotion_source")
            else:
                emotion = self.emotions.canonical(emotion, turn.id)
            turns.append(replace(turn, emotion=emotion))
        return turns

    def head(self, decision: Decision) -> str:
        """Return what opens a prompt: system, lists, and the description without the emotion."""
        known = description(replace(decision, emotion=""))
        system = self.system_turn(f"{SYSTEM}\n{lists(self.labels, self.emotions)}")
        user_text = f"{known}\n\nDialogue so far:\n" if known else "Dialogue so far:\n"
        return system + self.chat.open("user") + user_text

    def before(self, decision: Decision, turns: Sequence[Round]) -> list[str]:
        """Return the lines of s0 of the last of some turns."""
        lines = [line(REPLY, opening(decision))]
        for k, turn in enumerate(turns):
            lines.append(line(MESSAGE, turn.message))
            if k + 1 < len(turns):
                made = ((EMOTION, turn.emotion), (STRATEGY, turn.strategy), (REPLY, turn.reply))
                lines += [line(action, text) for action, text in made]
        return [text for text in lines if text]

    def _learned(
        self, decision: Decision, turn: Round, head: list[int], pieces: list[list[int]]
    ) -> list[Example]:
        texts = {EMOTION: turn.emotion, STRATEGY: turn.strategy, REPLY: f" {turn.reply}"}
        self._bare(decision, head, pieces)  # decoded labels can be longer than annotated ones
        if self.single_pass:
            texts = texts | {REPLY: turn.reply}
            ends = ("\n", "\n", self.chat.close("assistant"))
            targets = {
                i: self.ids(f"{FIELDS[task]}: {texts[task]}" + ends[i])
                for i, task in enumerate(TASKS)
            }
            return [self._example(decision, head, pieces, ALL, targets)]
        examples = []
        for i, task in enumerate(TASKS):
            target = self.ids(texts[task] + self.chat.close("assistant"))
            examples.append(self._example(decision, head, pieces, task, {i: target}, 1 + i))
            pieces = [*pieces, self.ids(line(task, texts[task]))]
        return examples

    def _example(
        self,
        decision: Decision,
        head: list[int],
        pieces: list[list[int]],
        task: str,
        targets: dict[int, list[int]],
        newest: int = 1,
    ) -> Example:
        """Return head, pieces that fit, task, targets; a target's tokens weigh 1 together.

        The newest pieces are the seeker's message and what is decided since: they are all kept.
        """
        tail = max(sum(map(len, targets.values())), self.answer_tokens + 1) + self.asking
        told = self._within(decision, head, pieces, tail, newest)
        context = told + self.ids(self.questions[task])
        learned = [(ids, i, 1 / len(ids)) for i, ids in targets.items()]
        return join([(context, NO_HEAD, 0.0), *learned], record=decision)

    def _bare(self, decision: Decision, head: list[int], pieces: list[list[int]]) -> Example:
        """Return a prompt that teaches nothing, if labels and an answer have room behind it."""
        tail = self.room + self.naming
        return unlearned(self._within(decision, head, pieces[-1:], tail), decision)

    def _within(
        self,
        decision: Decision,
        head: list[int],
        pieces: list[list[int]],
        tail: int,
        newest: int = 1,
    ) -> list[int]:
        """Return head and the last pieces that leave `tail` tokens of the window free.

        Raises:
            TooLongError: Not even the newest pieces fit.
        """
        try:
            lengths = [len(piece) for piece in pieces]
            first = first_kept(len(head), lengths, self.max_length - tail, SPARE, newest=newest)
        except TooLongError as error:
            raise TooLongError(f"{decision.id}: {error}") from error
        self._shortened += first > 0
        return [*head, *(token for piece in pieces[first:] for token in piece)]
