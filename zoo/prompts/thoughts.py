"""Wording of the thought-then-answer dialogue: roles, default system line, thoughts from labels.

Used by MeTHanol (a thought decoded at an intermediate block) and by its single-head controls.
"""

from __future__ import annotations

from zoo.encoding import NO_HEAD, Segment
from zoo.prompts.chat import ChatFormat
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


def turn_thought(dialogue: Dialogue, turn: Turn) -> str:
    """Return a supporter turn's thought, made from the annotated emotion, problem and strategy."""
    feeling = f"The seeker feels {dialogue.emotion}" if dialogue.emotion else "The seeker talks"
    topic = f" about {dialogue.problem}" if dialogue.problem else ""
    plan = STRATEGY_PLANS.get(turn.strategy, turn.strategy.lower() or "answer with care")
    label = f" ({turn.strategy})" if turn.strategy else ""
    return f"{feeling}{topic}. I will {plan}{label}."


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
    """Return the positions of the supporter turns that answer something."""
    return [i for i, turn in enumerate(dialogue.turns) if i and turn.speaker == SUPPORTER]


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
    segments = chat.turn("system", SUPPORT_SYSTEM, first=True)
    for i, turn in enumerate(dialogue.turns[:stop]):
        if turn.speaker != SUPPORTER:
            segments += chat.turn("user", turn.text)
        elif i == 0:  # an opening before the seeker has said anything: context only
            segments += chat.turn(ANSWER, turn.text)
        else:
            thought = turn_thought(dialogue, turn)
            segments += answer_turns(chat, thought, turn.text, think=think, speak=speak)
    return segments
