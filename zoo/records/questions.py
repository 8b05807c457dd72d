"""Questions with their answers: in free text, with a thought, or with options."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Triple:
    """A query with the thought that leads to its answer.

    Attributes:
        query: What the user says.
        thought: What is thought before the answer; empty if the data has none.
        answer: What is said.
        system: System or persona prompt; empty means the prompt's default line.
        kind: Name under which accuracy is reported (`false_belief`, `memory`, ...); may be empty.
        id: Where the record comes from, for example `fb_all_test.txt:9`.
    """

    query: str
    thought: str
    answer: str
    system: str = ""
    kind: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with options.

    Attributes:
        question: The question.
        options: The possible answers, in the order in which they are shown.
        gold: Index of the right option.
        rationale: Why it is right; empty if the data has none.
        kind: Subject or category under which accuracy is reported; may be empty.
        id: Where the record comes from.
    """

    question: str
    options: tuple[str, ...]
    gold: int
    rationale: str = ""
    kind: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Preference:
    """A query with two answers of which one is preferred.

    Attributes:
        query: What the user says.
        chosen: The better answer.
        rejected: The worse one.
        system: System prompt; empty means the prompt's default line.
        kind: Name under which scores are reported; may be empty.
        id: Where the record comes from.
    """

    query: str
    chosen: str
    rejected: str
    system: str = ""
    kind: str = ""
    id: str = ""
