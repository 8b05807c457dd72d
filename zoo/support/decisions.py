"""Decision points of a supporter: the state before each utterance, and what was done there.

Every supporter utterance is one, except one that opens the dialogue; of several in a row each has
its own strategy and is a decision of its own. The state is the description of the situation, the
seeker's emotion, the history with its strategies, and the seeker's current utterance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zoo.errors import InputError
from zoo.records import SEEKER, SUPPORTER, Dialogue, Turn, awaiting_reply
from zoo.support.labels import SUPPORT, Labels

ROLES = {SEEKER: "Seeker", SUPPORTER: "Supporter"}


@dataclass(frozen=True, slots=True)
class Decision:
    """What a supporter knows before an utterance, and the utterance.

    Attributes:
        turns: Everything said before, past supporter turns with their strategies.
        target: The supporter's own utterance, with its strategy.
        depth: How many decisions of this dialogue came before.
        last: No decision of this dialogue follows.
        dialogue: `id` of the dialogue.
        id: Names the decision, for example `test.txt:3, turn 7`.
        emotion: The seeker's emotion, annotated for the whole dialogue; empty if unknown.
        problem: The annotated problem type; empty if unknown.
        situation: The seeker's own description; empty if there is none.
        feedback: The seeker's next rating, 1 to 5, which covers this utterance; None if no rating
            follows. That the next one covers it is chosen here: seekers rate every few turns.
        intensity: How strong the emotion is, 1 to 5: in the first state what the seeker said
            before the talk, in the last one what he said after it (chosen here); else None.
    """

    turns: tuple[Turn, ...]
    target: Turn
    depth: int
    last: bool
    dialogue: str = ""
    id: str = ""
    emotion: str = ""
    problem: str = ""
    situation: str = ""
    feedback: int | None = None
    intensity: int | None = None

    @property
    def history(self) -> tuple[Turn, ...]:
        """What was said before the seeker's current utterance."""
        return self.turns[: len(self.turns) - self._closing()]

    @property
    def query(self) -> str:
        """The seeker turns that end `turns`, a line each; empty if a supporter turn ends them."""
        return "\n".join(turn.text for turn in self.turns[len(self.turns) - self._closing() :])

    def _closing(self) -> int:
        count = 0
        while count < len(self.turns) and self.turns[-1 - count].speaker != SUPPORTER:
            count += 1
        return count


def decisions(
    dialogue: Dialogue, labels: Labels = SUPPORT, *, need_strategies: bool = True
) -> list[Decision]:
    """Return the decision points of a dialogue in order; names in their canonical spelling.

    Args:
        dialogue: The conversation. It may be opened by the supporter.
        labels: The names of strategies, or of acts.
        need_strategies: Every decision needs one. If not, an empty one stays empty.

    Raises:
        InputError: A supporter turn names no known strategy, or lacks a needed one; or there is no
            decision in the dialogue.
    """
    turns = tuple(
        _named(turn, labels, f"{dialogue.id}, turn {i}", need_strategies and i > 0)
        for i, turn in enumerate(dialogue.turns)
    )
    places = [i for i, turn in enumerate(turns) if i and turn.speaker == SUPPORTER]
    if not places:
        raise InputError(f"{dialogue.id}: no supporter turn answers a seeker turn")
    return [
        Decision(
            turns=turns[:i],
            target=turns[i],
            depth=depth,
            last=i == places[-1],
            dialogue=dialogue.id,
            id=f"{dialogue.id}, turn {i}",
            emotion=dialogue.emotion,
            problem=dialogue.problem,
            situation=dialogue.situation,
            feedback=next((t.feedback for t in turns[i:] if t.feedback is not None), None),
            intensity=dialogue.intensities[bool(depth)] if i in (places[0], places[-1]) else None,
        )
        for depth, i in enumerate(places)
    ]


def current_decision(record: Dialogue | Decision, labels: Labels = SUPPORT) -> Decision:
    """Return the decision that is to be taken now.

    That is the one after the last turn, or the last one taken if the supporter spoke last. A last
    supporter turn without words is still to be written.

    Raises:
        InputError: See `decisions`.
    """
    if isinstance(record, Decision):
        return record
    return decisions(awaiting_reply(record), labels, need_strategies=False)[-1]


def transcript(turns: tuple[Turn, ...], *, strategies: bool = True) -> str:
    """Return turns as text, a line each: `Seeker: ...`, `Supporter (Question): ...`.

    Args:
        turns: What was said.
        strategies: Write the strategy of a supporter turn beside its speaker.
    """
    lines = []
    for turn in turns:
        name = ROLES.get(turn.speaker, turn.speaker)
        note = f" ({turn.strategy})" if strategies and turn.strategy else ""
        lines.append(f"{name}{note if turn.speaker == SUPPORTER else ''}: {turn.text}")
    return "\n".join(lines)


def description(decision: Decision) -> str:
    """Return what is known beside the conversation, a line each; empty if nothing is."""
    known = {
        "Problem": decision.problem,
        "Situation": decision.situation,
        "Seeker's emotion": decision.emotion,
    }
    return "\n".join(f"{name}: {text}" for name, text in known.items() if text)


def _named(turn: Turn, labels: Labels, where: str, needed: bool) -> Turn:
    if turn.speaker != SUPPORTER or not (turn.strategy or needed):
        return turn
    return replace(turn, strategy=labels.canonical(turn.strategy, where))
