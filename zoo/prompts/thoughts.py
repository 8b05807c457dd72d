"""Wording of the thought-then-answer dialogue: roles, default system line, thoughts from labels.

Used by MeTHanol (a thought decoded at an intermediate block) and by its single-head controls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from zoo.encoding import NO_HEAD, Example, Segment
from zoo.errors import InputError
from zoo.prompts.base import PromptEncoder
from zoo.prompts.chat_format import ChatFormat
from zoo.records import SUPPORTER, Dialogue, Triple, Turn

SYSTEM = "You are a helpful assistant."
SUPPORT_SYSTEM = "You are a supportive listener who helps people in distress."
THOUGHT, ANSWER = "thought", "assistant"

STRATEGY_PLANS = {
    "Question": "ask about it so that I understand better",
    "Restatement or Paraphrasing": "say back in my own words what I have heard",
    "Reflection of feelings": "name the feeling that I hear",
    "Self-disclosure": "share something similar from my own experience",
    "Affirmation and Reassurance": "affirm their strengths and reassure them",
    "Providing Suggestions": "suggest something that they could try",
    "Information": "give a useful piece of information",
    "Others": "keep the conversation warm and open",
}


def turn_thought(dialogue: Dialogue, turn: Turn, *, plan_only: bool = False) -> str:
    """Return a supporter turn's thought: its own, or one made from the annotation.

    Args:
        dialogue: Its annotation says the emotion and the problem.
        turn: Its annotation says the strategy.
        plan_only: Leave emotion and problem out of a thought that is made.
    """
    if turn.thought is not None:
        return turn.thought
    feeling = f"The seeker feels {dialogue.emotion}" if dialogue.emotion else "The seeker talks"
    topic = f" about {dialogue.problem}" if dialogue.problem else ""
    plan = STRATEGY_PLANS.get(turn.strategy, turn.strategy.lower() or "answer with care")
    label = f" ({turn.strategy})" if turn.strategy else ""
    will = f"I will {plan}{label}."
    return will if plan_only else f"{feeling}{topic}. {will}"


def turn_thoughts(dialogue: Dialogue, *, kept: bool) -> dict[int, str]:
    """Return the thoughts of the supporter turns that answer something, by position.

    Emotion and problem are those of the whole dialogue. Where past thoughts are kept in context,
    the first thought that is made says them and later ones say the plan alone: else half of the
    tokens to learn would be copies of the thought before.
    """
    found: dict[int, str] = {}
    said = False
    for i in supporter_turns(dialogue):
        turn = dialogue.turns[i]
        found[i] = turn_thought(dialogue, turn, plan_only=said)
        said = said or (kept and turn.thought is None)
    return found


def answer_turns(
    chat: ChatFormat, thought: str, answer: str, *, think: int | None, speak: int
) -> list[Segment]:
    """Return the thought turn and the answer turn.

    Args:
        chat: Turn markers.
        thought: Text of the thought; an empty one gets no turn.
        answer: Text of the answer.
        think: Head that learns the thought; None leaves the thought out.
        speak: Head that learns the answer.
    """
    turns = []
    if think is not None and thought:
        turns += chat.turn(THOUGHT, thought, head=think)
    return turns + chat.turn(ANSWER, answer, head=speak)


def question(chat: ChatFormat, record: Triple) -> list[Segment]:
    """Return the system and user turns of a triple."""
    system = chat.turn("system", record.system or SYSTEM, first=True)
    return system + chat.turn("user", record.query)


def supporter_turns(dialogue: Dialogue) -> list[int]:
    """Return the positions of the supporter turns that answer something and may be learned."""
    turns = enumerate(dialogue.turns)
    return [i for i, turn in turns if i and turn.speaker == SUPPORTER and turn.learned]


def history(
    chat: ChatFormat,
    dialogue: Dialogue,
    stop: int,
    *,
    think: int | None = None,
    speak: int = NO_HEAD,
) -> list[Segment]:
    """Return the system line and the turns before `stop`.

    Args:
        chat: Turn markers.
        dialogue: The conversation.
        stop: Index of the first turn left out.
        think: Head for the thoughts of past supporter turns; None leaves those thoughts out.
        speak: Head for the past supporter turns.
    """
    segments = chat.turn("system", dialogue.system or SUPPORT_SYSTEM, first=True)
    thoughts = turn_thoughts(dialogue, kept=think is not None)
    for i, turn in enumerate(dialogue.turns[:stop]):
        if turn.speaker != SUPPORTER:
            segments += chat.turn("user", turn.text)
        elif i == 0 or not turn.learned:  # nobody has said anything before it, or it is context
            segments += chat.turn(ANSWER, turn.text)
        else:
            segments += answer_turns(chat, thoughts[i], turn.text, think=think, speak=speak)
    return segments


@dataclass
class ThoughtEncoder(PromptEncoder):
    """Encoder of thought-then-answer data, for several heads or one.

    Attributes:
        think: Head that learns thoughts; None leaves thoughts out of the text.
        speak: Head that learns answers.
        keep_thoughts: Keep the thoughts of past turns in a dialogue's context. If not, each
            supporter turn becomes an example of its own, whose history has none.
    """

    records: ClassVar[tuple[type, ...]] = (Triple, Dialogue)

    think: int | None
    speak: int
    keep_thoughts: bool = True

    def __call__(self, record: Triple | Dialogue) -> list[Example]:
        """Encode a triple, or a dialogue with every supporter turn supervised.

        Raises:
            InputError: A triple without answer or (if thoughts are learned) thought, a dialogue
                in which no supporter turn answers anything, or a sample longer than the window.
        """
        return [self.encode(segments, record) for segments in self.render(record)]

    def render(self, record: Triple | Dialogue) -> list[list[Segment]]:
        """Return the segments of each example that a record gives."""
        think, speak = self.think, self.speak
        if isinstance(record, Triple):
            self._require(record)
            turns = answer_turns(self.chat, record.thought, record.answer, think=think, speak=speak)
            return [question(self.chat, record) + turns]
        last = supporter_turns(record)
        if not last:
            raise InputError(f"{record.id}: no supporter turn that may be learned answers a seeker")
        if think is not None and not any(turn_thought(record, record.turns[i]) for i in last):
            raise InputError(f"{record.id}: no supporter turn has a thought to learn")
        if self.keep_thoughts or self.think is None:
            return [history(self.chat, record, last[-1] + 1, think=think, speak=speak)]
        return [self._one_turn(record, i) for i in last]

    def prompt(self, record: Triple | Dialogue) -> list[int]:
        """Return the token ids of everything before the thought (or answer) to be generated.

        For a dialogue that is the history of its last supporter turn.

        Raises:
            InputError: The prompt fills the window.
        """
        if isinstance(record, Triple):
            segments = question(self.chat, record)
        else:
            think = self.think if self.keep_thoughts else None
            stop = supporter_turns(record)[-1]
            segments = history(self.chat, record, stop, think=think, speak=self.speak)
        return self.check_prompt(self.segment_ids(segments), record)

    def gold(self, record: Triple | Dialogue) -> tuple[str, str]:
        """Return the annotated thought and answer that a generation is compared with."""
        if isinstance(record, Triple):
            return record.thought, record.answer
        kept = self.keep_thoughts and self.think is not None
        last, thought = list(turn_thoughts(record, kept=kept).items())[-1]
        return thought, record.turns[last].text

    def _require(self, record: Triple) -> None:
        needed = {"answer": record.answer}
        if self.think is not None:
            needed["thought"] = record.thought
        for name, text in needed.items():
            if not text.strip():
                raise InputError(f"{record.id or 'triple'}: the field {name!r} is empty")

    def _one_turn(self, record: Dialogue, index: int) -> list[Segment]:
        turn = record.turns[index]
        thought = turn_thought(record, turn)
        past = history(self.chat, record, index)
        return past + answer_turns(
            self.chat, thought, turn.text, think=self.think, speak=self.speak
        )
