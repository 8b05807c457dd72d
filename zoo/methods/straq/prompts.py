"""straQ*'s wording: which strategy next, as a multiple-choice question; a reply by a strategy.

The skeleton of the question is that of the sheet's note; the words are ours (inferred).
"""

from __future__ import annotations

from zoo.prompts.option_tokens import letter
from zoo.records import Triple, Turn
from zoo.support.decisions import Decision, description, transcript
from zoo.support.labels import SUPPORT, Labels

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
    dialogue = transcript(decision.turns, strategies=False)
    return Triple(
        query=(
            f"{opening(decision)}{dialogue}\n\nReply as the supporter, in one or two sentences. "
            f"Strategy: {strategy} ({labels.definitions[strategy]})."
        ),
        thought="",
        answer=decision.target.text,
        system=REPLY_SYSTEM,
        id=decision.id,
    )
