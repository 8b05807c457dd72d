"""straQ*'s wording: which strategy next, as a multiple-choice question; a reply by a strategy.

The skeleton of the question is that of the sheet's note; the words are ours (inferred).
"""

from __future__ import annotations

from dataclasses import replace

from zoo.support.labels import SUPPORT, Labels
from zoo.support.decisions import Decision, decisions, description, transcript
from zoo.methods.hdlm.prompts import letter
from zoo.records import SEEKER, SUPPORTER, Dialogue, Triple, Turn

PLAN_SYSTEM = "You plan support strategies for a helper who talks with a person in distress."
REPLY_SYSTEM = "You are a supportive listener who helps a person in distress."
LEAD = "Answer:"  # opens the assistant's turn; the letter follows


def letters(labels: Labels) -> list[str]:
    """Return A, B, C, ..., one for each strategy in canonical order."""
    return [letter(i) for i in range(len(labels.names))]


def question(labels: Labels) -> str:
    """Return the question after the conversation, an option a line."""
    options = "\n".join(f"{letter(i)}. {name}" for i, name in enumerate(labels.names))
    return f"Which {labels.kind} should the supporter use next?\n{options}\nAnswer with one letter."


def opening(decision: Decision) -> str:
    """Return what stands before the conversation's lines."""
    known = description(decision)
    return f"{known}\n\nDialogue so far:\n" if known else "Dialogue so far:\n"


def line(turn: Turn) -> str:
    """Return a turn as a line; a supporter's carries its strategy."""
    return transcript((turn,)) + "\n"


def reply_query(decision: Decision, strategy: str, labels: Labels = SUPPORT) -> Triple:
    """Return the responder's query: the state, and the strategy with its definition.

    Args:
        decision: The state.
        strategy: Name of the strategy to use.
        labels: The strategies.
    """
    told = transcript(decision.turns, strategies=False)
    return Triple(
        query=(
            f"{opening(decision)}{told}\n\nReply as the supporter, in one or two sentences. "
            f"Strategy: {strategy} ({labels.definitions[strategy]})."
        ),
        thought="",
        answer=decision.target.text,
        system=REPLY_SYSTEM,
        id=decision.id,
    )


def current(record: Dialogue | Decision, labels: Labels = SUPPORT) -> Decision:
    """Return the decision that is to be taken now.

    That is the one after the last turn, or the last one taken if the supporter spoke last. A last
    supporter turn without words is still to be written.

    Raises:
        InputError: See `zoo.support.decisions.decisions`.
    """
    if isinstance(record, Decision):
        return record
    if record.turns and record.turns[-1].speaker == SUPPORTER and record.turns[-1].text:
        return decisions(record, labels, need_strategies=False)[-1]
    waiting = awaiting(record)
    return decisions(waiting, labels, need_strategies=False)[-1]


def awaiting(record: Dialogue) -> Dialogue:
    """Return a dialogue whose last turn is a supporter's, without words if it is to be written."""
    if record.turns and record.turns[-1].speaker == SUPPORTER:
        return record
    return replace(record, turns=(*record.turns, Turn(SUPPORTER, "")))


def said(text: str) -> Dialogue:
    """Return a dialogue in which a seeker has said this and nothing else is known."""
    return Dialogue((Turn(SEEKER, text),), id="prompt")
