"""What the translator reads and writes: an instruction with numbered lines, and numbered lines.

    user        task, requirements (each in one of several wordings), terms, numbered source lines
    assistant   1. first line
                2. second line
                ...

The paper names the requirements (colloquial, in the style of the source, similar length, the same
number of lines, ...) and that they are paraphrased at random. The wordings here are ours. They are
drawn once for a block, from its id, so that training, sampling and inference see one prompt.

A response is tokenised line by line (`written`), so that a segment's tokens do not depend on what
stands around it. Every line ends with a line break, the last one of a response with the end of the
turn in its place.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from zoo.records import SubtitleBlock

LANGUAGES = {
    "zh": "Chinese",
    "en": "English",
    "ja": "Japanese",
    "ko": "Korean",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "pt": "Portuguese",
    "th": "Thai",
    "vi": "Vietnamese",
    "id": "Indonesian",
    "ms": "Malay",
}

TASK = "Translate these {count} subtitle lines from {source} into {target}."
REQUIREMENTS = (
    (
        "Write as people speak.",
        "Use everyday spoken language.",
        "Make it colloquial: these are lines of a dialogue.",
    ),
    (
        "Keep the style and the mood of each line.",
        "Match the tone of the original.",
        "Let every speaker sound as in the original.",
    ),
    (
        "Keep each line about as long as its original.",
        "A translation should take about as long to say as its original.",
        "Do not make lines much longer or shorter.",
    ),
    (
        "Write exactly {count} numbered lines, one for each original line.",
        "The number of lines stays {count}; never join or split lines.",
        "Answer with {count} numbered lines and nothing else.",
    ),
    (
        "Be vivid and free where the scene asks for it.",
        "Prefer a lively rendering to a literal one.",
        "Translate the meaning, not word for word.",
    ),
)
OPTIONAL = 4
"""Position of the requirement that is left out at random: a block has four or five."""

NUMBERED = re.compile(r"((?!0)\d+)[.．、:：)](?!\d) ?(.*)")
"""A line and its number, also as Chinese typography has it; `3.5 million` and `10:30` have none."""


def instruction(block: SubtitleBlock) -> str:
    """Return what the user says: all lines of the block, context and core, are to be translated."""
    rng = random.Random(block.id)
    count = len(block.lines)
    wordings = [rng.choice(wordings).format(count=count) for wordings in REQUIREMENTS]
    if rng.random() < 0.5:
        del wordings[OPTIONAL]
    terms = [f"{name} ({kind}) - {word}" if kind else f"{name} - {word}" for name, kind, word in
             block.terms]  # fmt: skip
    parts = [
        TASK.format(
            count=count,
            source=language(block.source_language),
            target=language(block.target_language),
        ),
        "Requirements:",
        *(f"- {wording}" for wording in wordings),
        "Terms:" if terms else "Terms: none",
        *terms,
        "Lines:",
        *(f"{number}. {line}" for number, line in enumerate(block.lines, start=1)),
    ]
    return "\n".join(parts)


def language(code: str) -> str:
    """Return a language's English name; an unknown code stands for itself."""
    return LANGUAGES.get(code, code or "the source language")


def written(lines: Sequence[str], first: int, total: int) -> list[str]:
    """Return lines as a response holds them, each a text to tokenise alone.

    Args:
        lines: Translated lines that follow each other.
        first: Number of the first one, from 1.
        total: Lines of the whole response; its last one has no line break.
    """
    return [
        f"{number}. {line}" + "\n" * (number < total) for number, line in enumerate(lines, first)
    ]


def read_lines(text: str, first: int, count: int) -> tuple[str, ...] | None:
    """Return the lines of a response, without their numbers; None if it is not valid.

    It is valid if it has `count` lines that are numbered from `first` on and none is empty. Empty
    lines between them are passed over. A digit right after the number and its point belongs to the
    line: it is one without a number.
    """
    rows = [row.strip() for row in text.split("\n") if row.strip()]
    found = [NUMBERED.fullmatch(row) for row in rows]
    lines = tuple(match[2].strip() for match in found if match)
    numbers = [int(match[1]) for match in found if match]
    valid = len(rows) == len(lines) and numbers == list(range(first, first + count)) and all(lines)
    return lines if valid else None


def read_line(text: str) -> str:
    """Return a line that was written alone, so as number 1: the first one, without that number.

    Another number belongs to the line (`1999: the year`).
    """
    line = text.split("\n")[0].strip()
    found = NUMBERED.fullmatch(line)
    return found[2].strip() if found and int(found[1]) == 1 else line
