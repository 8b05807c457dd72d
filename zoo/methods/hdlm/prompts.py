"""HdLM's wording: a conversation whose reply is given in levels, coarse to fine.

`system | user | thought | subtask | assistant` with two levels, `system | user | first_thought |
subtask_1 | second_thought | subtask_2 | assistant` with three. A subtask is an instruction between
two levels that depends on the label before it: the classes below it, or to answer by a strategy. It
is built from the gold label in training and from the decoded one in inference. Classes are written
as the numbers of a list in the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from zoo.errors import InputError
from zoo.prompts.option_tokens import letter
from zoo.prompts.thoughts import SUPPORT_SYSTEM, SYSTEM, supporter_turns
from zoo.records import SUPPORTER, Dialogue, LabelPath, Question, Triple
from zoo.support.labels import EMOTION_SETS, EMOTIONS, STRATEGIES

Guide = Literal["emotion", "strategy"]
Emotions = Literal["esconv", "empathetic_dialogues"]
Leveled = LabelPath | Dialogue | Triple | Question

CLASSIFY_SYSTEM = "You sort texts into classes, from coarse to fine. Answer with a class number."
QUESTION_SYSTEM = "You answer a question: first the reasoning, then the option."
ANSWER_SYSTEM = "You answer a question with the letter of an option."
FEELINGS = EMOTION_SETS["empathetic_dialogues"].names
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


@dataclass(frozen=True)
class Plan:
    """What is asked of a record, level by level.

    Attributes:
        system: System turn.
        turns: (role, text) of the turns before the reply.
        gold: The right text at each level.
        names: The right label at each level, as a name.
        record: Where it comes from.
        id: What errors call it; empty if the record has none.
        guide: What is decoded before the reply of a dialogue.
        labels: The names to choose from at each level of the guide.
        kept: End of the last turn that stays when a window is too short for the turn; None if
            nothing of the turn may be left out.
    """

    system: str
    turns: tuple[tuple[str, str], ...]
    gold: tuple[str, ...]
    names: tuple[str, ...]
    record: Leveled
    id: str = ""
    guide: tuple[Guide, ...] = ()
    labels: tuple[tuple[str, ...], ...] = ()
    kept: str | None = None

    def choices(self, path: Sequence[str]) -> tuple[str, ...] | None:
        """Return the names to choose from after `path`; None where the text is free.

        No names are below a wrong path.
        """
        if isinstance(self.record, LabelPath):
            return self.record.taxonomy.below(tuple(path))
        return self.labels[len(path)] if len(path) < len(self.labels) else None

    def name(self, path: Sequence[str], text: str) -> str | None:
        """Return the name that a decoded text means after `path`; None if it means none."""
        names = self.choices(path)
        if names is None:
            return text.strip()
        return next((name for i, name in enumerate(names) if text == str(i)), None)

    def is_closed(self) -> bool:
        """True if every level is a choice of names."""
        return isinstance(self.record, LabelPath)

    def asking(self, prompt: str) -> Plan:
        """Return the same question about another text."""
        if isinstance(self.record, LabelPath):
            return classification(replace(self.record, text=prompt))
        return replace(self, turns=(*self.turns[:-1], ("user", prompt)))

    def text(self, path: Sequence[str], name: str) -> str:
        """Return how a name is written after `path`: its number, or itself where text is free."""
        names = self.choices(path)
        return name if names is None else str(names.index(name)) if name in names else "?"

    def subtask(self, path: Sequence[str]) -> str:
        """Return the instruction after the label that ends `path`; empty for none."""
        names = self.choices(path)
        if isinstance(self.record, LabelPath):
            return f"Classes:\n{listed(tuple(names or ()))}"
        if not self.guide:
            return ""
        before = self.guide[len(path) - 1]
        sentence = f"{'The seeker feels' if before == 'emotion' else 'Strategy:'} {path[-1]}"
        if names is not None:
            kind = "Emotions" if self.guide[len(path)] == "emotion" else "Strategies"
            return f"{sentence}. {kind}:\n{listed(tuple(names))}"
        return f"Answer as the supporter. {sentence}"


@lru_cache(maxsize=4096)
def listed(names: tuple[str, ...]) -> str:
    """Return a numbered list, a name a line."""
    return "\n".join(f"{i}: {name}" for i, name in enumerate(names))


def role_names(depth: int) -> tuple[list[str], list[str]]:
    """Return the roles of the levels and those of the subtasks between them.

    Example:
        >>> role_names(2)
        (['thought', 'assistant'], ['subtask'])
        >>> role_names(3)[1]
        ['subtask_1', 'subtask_2']
    """
    if depth <= 2:
        return ["thought", "assistant"][-depth:], ["subtask"][: depth - 1]
    thoughts = [f"{ORDINALS[i]}_thought" for i in range(depth - 1)]
    return [*thoughts, "assistant"], [f"subtask_{i + 1}" for i in range(depth - 1)]


def plans(
    record: Leveled,
    depth: int,
    guide: Sequence[Guide] = ("strategy",),
    emotions: Emotions | None = None,
) -> list[Plan]:
    """Return what is asked of a record: one plan, or one for every supporter turn of a dialogue.

    Args:
        record: A labelled text, a dialogue, a question with rationale, or a triple.
        depth: Number of levels.
        guide: What is decoded before the reply of a dialogue.
        emotions: Which emotions a guide chooses from; None for those of the record's emotion.

    Raises:
        InputError: The record has another number of levels, or lacks what a level needs.
    """
    if isinstance(record, LabelPath):
        planned = [classification(record)]
    elif isinstance(record, Dialogue):
        planned = guided(record, tuple(guide), emotions)
    elif isinstance(record, Question):
        planned = [rationale(record, depth)]
    else:
        gold = (record.thought, record.answer)[-depth:]
        system = record.system or SYSTEM
        planned = [Plan(system, (("user", record.query),), gold, gold, record, record.id)]
    for plan in planned:
        if len(plan.gold) != depth:
            raise InputError(
                f"{plan.id}: {len(plan.gold)} levels, but the model has {depth}; set model.layers "
                f"to {len(plan.gold) - 1} of them"
            )
        empty = [i + 1 for i, text in enumerate(plan.gold) if not text.strip()]
        if empty:
            raise InputError(f"{plan.id}: nothing to learn at level {empty[0]}")
    return planned


def classification(record: LabelPath) -> Plan:
    """Return the plan of a labelled text.

    Raises:
        InputError: A label is not in the taxonomy.
    """
    gold = []
    for level, label in enumerate(record.labels):
        names = record.taxonomy.below(record.labels[:level])
        if label not in names:
            raise InputError(
                f"{record.id}: {label!r} is not among the classes of "
                f"{'/'.join(record.labels[:level]) or 'the first level'}"
            )
        gold.append(str(names.index(label)))
    kept = f"\n\nClasses:\n{listed(record.taxonomy.below(()))}"
    turns, labels = (("user", record.text + kept),), record.labels
    return Plan(CLASSIFY_SYSTEM, turns, tuple(gold), labels, record, record.id, kept=kept)


def guided(
    record: Dialogue, guide: tuple[Guide, ...], emotions: Emotions | None = None
) -> list[Plan]:
    """Return a plan for every supporter turn that answers something and names its strategy."""
    known = {kind: labels_of(record, kind, emotions) for kind in guide}
    title = "Emotions" if guide[0] == "emotion" else "Strategies"
    system = f"{SUPPORT_SYSTEM}\n{title}:\n{listed(known[guide[0]])}"
    planned = []
    for i in supporter_turns(record):
        turn = record.turns[i]
        names = tuple(record.emotion if kind == "emotion" else turn.strategy for kind in guide)
        for kind, name in zip(guide, names, strict=True):
            if name not in known[kind]:
                named = f" named {name!r}" if name else "; model.guide says what must be there"
                raise InputError(f"{record.id}, turn {i}: no {kind}{named}")
        numbers = tuple(
            str(known[kind].index(name)) for kind, name in zip(guide, names, strict=True)
        )
        past = tuple(
            ("assistant" if t.speaker == SUPPORTER else "user", t.text) for t in record.turns[:i]
        )
        gold, right = (*numbers, turn.text), (*names, turn.text)
        name = f"{record.id}, turn {i}" if record.id else ""
        lists = tuple(known.values())
        planned.append(Plan(system, past, gold, right, record, name, guide=guide, labels=lists))
    if not planned:
        raise InputError(f"{record.id}: no supporter turn answers a seeker turn")
    return planned


def labels_of(record: Dialogue, kind: Guide, emotions: Emotions | None = None) -> tuple[str, ...]:
    """Return the names to choose from: strategies, or emotions.

    Args:
        record: The dialogue.
        kind: What is chosen.
        emotions: Which emotions; None for EmpatheticDialogues' if the dialogue is annotated with
            one of them, else ESConv's.
    """
    if kind == "strategy":
        return STRATEGIES
    if emotions is None:
        return FEELINGS if record.emotion in FEELINGS else EMOTIONS
    return EMOTION_SETS[emotions].names


def rationale(record: Question, depth: int) -> Plan:
    """Return the plan of a question: reasoning and answer, or at depth 1 the answer alone.

    Raises:
        InputError: It has no rationale, but two levels are asked for.
    """
    if not record.rationale and depth > 1:
        raise InputError(
            f"{record.id}: no rationale to decode before the answer; set model.layers to [] to "
            f"answer at once"
        )
    options = "\n".join(f"{letter(i)}: {option}" for i, option in enumerate(record.options))
    gold = (record.rationale, letter(record.gold)) if depth > 1 else (letter(record.gold),)
    system = QUESTION_SYSTEM if depth > 1 else ANSWER_SYSTEM
    turns = (("user", f"{record.question}\n{options}"),)
    return Plan(system, turns, gold, gold, record, record.id)
