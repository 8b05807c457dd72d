"""FiSMiness' finite state machine: the states of a turn, the only legal moves, and its text.

A turn walks s0 -emotion-> s1 -strategy-> s2 -reply-> s3, and the seeker's next message leads to s0
again. The text of a state holds all moves so far, a line each, in their order: the text of
s1 = [h, u_k, e] begins with the text of s0 = [h, u_k], and the history of the next turn holds every
emotion and strategy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from zoo.records import SEEKER, SUPPORTER, Turn
from zoo.support.decisions import Decision

EMOTION, STRATEGY, REPLY, MESSAGE = "emotion", "strategy", "reply", "message"
MOVES = {
    EMOTION: ("s0", "s1"),
    STRATEGY: ("s1", "s2"),
    REPLY: ("s2", "s3"),
    MESSAGE: ("s3", "s0"),
}
"""Action -> the state it is legal in, and the state it leads to."""

WRITTEN = {EMOTION: "Emotion", STRATEGY: "Strategy", REPLY: "Supporter", MESSAGE: "Seeker"}


class IllegalMoveError(ValueError):
    """An action that the current state does not allow."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The current state of a conversation; the first is s3, before the seeker's first message.

    Attributes:
        state: `s0`, `s1`, `s2` or `s3`.
        moves: (action, text) of all moves so far.
    """

    state: str = "s3"
    moves: tuple[tuple[str, str], ...] = field(default=())

    @property
    def legal(self) -> str:
        """The one action that this state allows."""
        return next(action for action, (source, _) in MOVES.items() if source == self.state)

    def move(self, action: str, text: str) -> Machine:
        """Return where an action leads.

        Args:
            action: `emotion`, `strategy`, `reply` or `message`.
            text: The label or the utterance; a message may be empty.

        Raises:
            IllegalMoveError: The state does not allow the action; the legal one is named.
        """
        if action != self.legal:
            source, target = MOVES[self.legal]
            raise IllegalMoveError(
                f"no move {action!r} from {self.state}; the legal one is {self.legal!r} "
                f"({source} -> {target})"
            )
        return Machine(MOVES[action][1], (*self.moves, (action, text)))

    def text(self) -> str:
        """Return the state as text."""
        return "".join(line(action, text) for action, text in self.moves)


def line(action: str, text: str) -> str:
    r"""Return what a move adds to the state's text; nothing for a message without words.

    Example:
        >>> line("message", "I lost my job.\nLast week."), line("emotion", "sadness")
        ('Seeker: I lost my job.\nSeeker: Last week.\n', 'Emotion: sadness\n')
    """
    parts = text.split("\n") if action == MESSAGE else [" ".join(text.split())]
    return "".join(f"{WRITTEN[action]}: {part}\n" for part in parts if part.strip())


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of a dialogue as it was annotated.

    Attributes:
        message: What the seeker said, a line for each utterance; empty if the supporter goes on.
        emotion: The seeker's emotion; empty if unknown.
        strategy: The supporter's strategy; empty if unknown.
        reply: What the supporter said.
        id: Name of the decision.
    """

    message: str
    emotion: str
    strategy: str
    reply: str
    id: str


def opening(decision: Decision) -> str:
    """Return what the supporter says before the seeker's first turn; empty if nothing."""
    first = (*decision.turns, decision.target)[0]
    return first.text if first.speaker == SUPPORTER else ""


def rounds(decision: Decision, *, annotated: bool = False) -> list[Round]:
    """Return the turns up to this decision's own, without the supporter's opening.

    Args:
        decision: The state and the supporter's utterance.
        annotated: Take emotions from the seeker's turns, each valid until the next one; else the
            dialogue's.
    """
    turns = (*decision.turns, decision.target)
    emotion = "" if annotated else decision.emotion
    complete: list[Round] = []
    message: list[str] = []
    for i, turn in enumerate(turns):
        if turn.speaker != SUPPORTER:
            message.append(" ".join(turn.text.split()))
            emotion = (turn.emotion or emotion) if annotated else emotion
        elif i > 0:
            name = f"{decision.dialogue}, turn {i}"
            complete.append(Round("\n".join(message), emotion, turn.strategy, turn.text, name))
            message = []
    return complete


def with_seeker_emotion(turns: tuple[Turn, ...], emotion: str) -> tuple[Turn, ...]:
    """Return the turns with this emotion on the seeker's last one."""
    for i in range(len(turns) - 1, -1, -1):
        if turns[i].speaker == SEEKER:
            old = turns[i]
            new = Turn(old.speaker, old.text, old.strategy, emotion, old.feedback)
            return (*turns[:i], new, *turns[i + 1 :])
    return turns
