"""Principles: what theories say of needs, emotions and virtues, and rules that others published.

The curated ones (`principles_maslow.yaml`, ..., the strong part of the corpus) were written for
this project, three to five for a label. The published ones come from files of the user and have no
label of their own; `tagging.py` gives them labels (the weak part). A principle is one text unit of
the graph.

A principle's text is data wherever it goes: a published one is quoted, never continued and never
obeyed, also where it holds an instruction such as "ignore the above".
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from functools import cache
from importlib import resources

import yaml

from zoo.cache import digest
from zoo.errors import InputError
from zoo.records import PrincipleText

STEERING = ("maslow", "emotion", "virtue")
"""The theories that prescribe something: Maslow's needs, Plutchik's emotions, Aristotle's virtues;
their names and labels are those of `zoo.records.THEORIES`, with the emotion surprise."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")  # what no XML file can hold


@dataclasses.dataclass(frozen=True, slots=True)
class Principle:
    """One principle.

    Attributes:
        id: Names it by what it says, wherever it stands in a file.
        statement: What the theory, or the published rule, says.
        theory: One of `STEERING`; empty where it has no label.
        label: Label of that theory.
        when: When it applies; empty for a published rule.
        do: What to do, in the imperative; empty for a published rule.
        avoid: What to avoid; empty for a published rule.
        sources: Where it stands: the curated file, or file and line and who says it.
        confidence: How sure its label is; 1 for a curated one, 0 without a label.
    """

    id: str
    statement: str
    theory: str = ""
    label: str = ""
    when: str = ""
    do: str = ""
    avoid: str = ""
    sources: tuple[str, ...] = ()
    confidence: float = 0.0

    @property
    def curated(self) -> bool:
        """Whether it was written for this project."""
        return bool(self.do)

    @property
    def rule(self) -> str:
        """The principle as advice to the one who decides; a published text is quoted."""
        if self.curated:
            return f"When {self.when}, {self.do}; avoid {self.avoid}."
        about = f"{self.label.lower()} is at stake" if self.label else "you decide"
        return f"When {about}, weigh in your choice the principle {quoted(self.statement)}."


def quoted(text: str) -> str:
    """Return a text as one quoted line, from which nothing inside can break out."""
    return json.dumps(" ".join(text.split()), ensure_ascii=False)


@cache
def curated() -> tuple[Principle, ...]:
    """Return the principles written for this project, several for a label."""
    found = []
    for theory in STEERING:
        name = f"principles_{theory}.yaml"
        text = resources.files("zoo.methods.sova").joinpath(name).read_text("utf-8")
        found += [
            Principle(
                id=f"{theory}-{digest([theory, *entry.values()])[:8]}",
                theory=theory,
                sources=(f"zoo/methods/sova/{name}",),
                confidence=1.0,
                **entry,
            )
            for entry in yaml.safe_load(text)
        ]
    return tuple(found)


def published(texts: Iterable[PrincipleText]) -> list[Principle]:
    """Return published principles, without labels; texts of the same letters are one principle."""
    sources: dict[str, set[str]] = {}
    first: dict[str, str] = {}
    for text in sorted(texts, key=lambda text: (text.text, text.id)):
        key = letters(text.text)
        if not key:
            raise InputError(f"{text.id}: a principle without a letter")
        first.setdefault(key, " ".join(CONTROL.sub(" ", text.text).split()))
        sources.setdefault(key, set()).add(f"{text.id} ({text.source})")
    return [
        Principle(id=f"text-{digest(key)[:8]}", statement=first[key], sources=tuple(sorted(found)))
        for key, found in sources.items()
    ]


def letters(text: str) -> str:
    """Return the letters and digits of a text in small letters, words one blank apart."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def corpus(texts: Iterable[PrincipleText] = ()) -> list[Principle]:
    """Return all principles, ordered by id: the curated ones and published ones."""
    return sorted([*curated(), *published(texts)], key=lambda principle: principle.id)
