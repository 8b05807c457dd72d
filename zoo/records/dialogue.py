"""Conversations: turns, and whole dialogues with their annotations."""

from __future__ import annotations

from dataclasses import dataclass, replace

SEEKER = "seeker"
SUPPORTER = "supporter"


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance of a dialogue.

    Attributes:
        speaker: `seeker`, `supporter`, or a role's name in multi-party data.
        text: The utterance.
        strategy: Annotated support strategy of a supporter turn, or dialogue act of any turn in
            data that annotates acts; else empty.
        emotion: Annotated emotion of this turn, else empty.
        feedback: The seeker's rating of the turns before it, 1 to 5, if the file has one.
        thought: What the supporter thought before it, in a chat; empty for nothing, None if that
            is not known.
        learned: Whether a supporter turn may be learned; otherwise it is shown as context.
    """

    speaker: str
    text: str
    strategy: str = ""
    emotion: str = ""
    feedback: int | None = None
    thought: str | None = None
    learned: bool = True


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation with its annotations.

    Attributes:
        turns: The utterances in order; neighbours of one speaker may follow each other.
        emotion: The seeker's annotated emotion for the whole dialogue.
        problem: The annotated problem type.
        situation: The seeker's own description of the situation.
        id: Where the record comes from, for example `train.txt.gz:17`.
        system: System or persona prompt; empty means the method's own line.
        intensities: How strong the seeker says the emotion was before and after, 1 to 5; None
            where he says nothing.
    """

    turns: tuple[Turn, ...]
    emotion: str = ""
    problem: str = ""
    situation: str = ""
    id: str = ""
    system: str = ""
    intensities: tuple[int | None, int | None] = (None, None)


def awaiting_reply(dialogue: Dialogue) -> Dialogue:
    """Return the dialogue with a supporter turn last: an empty one where a seeker spoke last."""
    if dialogue.turns and dialogue.turns[-1].speaker == SUPPORTER:
        return dialogue
    return replace(dialogue, turns=(*dialogue.turns, Turn(SUPPORTER, "")))


def opened_by_seeker(text: str) -> Dialogue:
    """Return a dialogue in which a seeker has said this text and nothing else is known."""
    return Dialogue((Turn(SEEKER, text),), id="prompt")
