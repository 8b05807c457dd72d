"""What a judge is asked: scores of the candidates of a segment, or whether a line goes on.

The rubric is the paper's for training: accuracy 30 %, fit to speech and context 30 %,
expressiveness 40 %. The segment's lines are marked in up to 7 lines of context on both sides, of
those that the block has: at the ends of its core that is its own context (5 lines, unless the data
say otherwise), where the paper shows 7. The wording is ours.

The paper's evaluation has three rubrics of its own, each in a prompt of its own; that of vividness
leaves accuracy out. There three judges score blocks of 25 lines; here one grades line by line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from zoo.judges.judge import JudgeError, Messages
from zoo.methods.alpo.prompts import language
from zoo.records import SubtitleBlock
from zoo.records.subtitles import Lines

CONTEXT = 7
BEST = 100
MIN_DISTINCT = 0.25  # of the scores of a reply: fewer are no judgement
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
GRADES = ("excellent", "good", "fair", "poor", "useless")
"""The fixed grades, from 100 to 0 points in equal steps."""

SYSTEM = "You judge translations of film subtitles."
RUBRIC = (
    "accuracy (30 %): the meaning is that of the original",
    "fit (30 %): people would say it like this, here",
    "expressiveness (40 %): it is vivid and shows the mood",
)
ACCURACY = ("accuracy (100 %): the meaning is that of the original",)
NATURALNESS = ("naturalness (100 %): people would say it like this, here",)
VIVIDNESS = ("vividness (100 %): it is lively and expressive; accuracy does not count",)
EXAMPLE_SCORES = {"A": 62, "B": 20, "C": 91}
EXAMPLE = (
    'For example, of A: "I am very hungry.", B: "I hungry.", C: "I could eat a horse." as '
    f'translations of "我饿死了" the scores are {json.dumps(EXAMPLE_SCORES)}.'
)
COHERENT, INCOHERENT = "yes", "no"


class OutOfRangeError(JudgeError):
    """A score is not from 0 to 100."""


class TooFewDistinctError(JudgeError):
    """Nearly all candidates have the same score."""


def shown(block: SubtitleBlock, start: int, stop: int) -> str:
    """Return the source lines of a segment, marked, with up to 7 of the block's on each side.

    Args:
        block: The block.
        start: First core line of the segment.
        stop: One past its last core line.
    """
    first, last = len(block.before) + start, len(block.before) + stop
    rows = []
    for i, line in enumerate(block.lines):
        if first - CONTEXT <= i < last + CONTEXT:
            rows.append(f"{'>> ' if first <= i < last else '   '}{line}")
    return "\n".join(rows)


def _question(
    block: SubtitleBlock, start: int, stop: int, rubric: Sequence[str], ask: str
) -> Messages:
    source, target = language(block.source_language), language(block.target_language)
    text = "\n".join(
        [
            f"Lines of a film in {source}; those to evaluate are marked with >>:",
            shown(block, start, stop),
            "",
            f"Judge translations of the marked lines into {target} by",
            *(f"- {part}" for part in rubric),
            "",
            ask,
        ]
    )
    return [("system", SYSTEM), ("user", text)]


def scores_of_all(
    block: SubtitleBlock, start: int, stop: int, candidates: Sequence[Lines]
) -> Messages:
    """Return the messages that ask for an integer from 0 to 100 for each candidate, in JSON."""
    listed = "\n".join(
        f"{letter}: {json.dumps(' / '.join(lines), ensure_ascii=False)}"
        for letter, lines in zip(LETTERS, candidates, strict=False)
    )
    ask = (
        f"{EXAMPLE}\n\nCandidates:\n{listed}\n\nAnswer with one JSON object that gives every "
        f"candidate an integer from 0 to {BEST}, and nothing else."
    )
    return _question(block, start, stop, RUBRIC, ask)


def grade_of_one(
    block: SubtitleBlock,
    start: int,
    stop: int,
    candidate: Lines,
    grades: Sequence[str] = GRADES,
    rubric: Sequence[str] = RUBRIC,
) -> Messages:
    """Return the messages that ask for the letter of a candidate's grade.

    Args:
        block: The block.
        start: First core line of the segment.
        stop: One past its last core line.
        candidate: Its translation.
        grades: Names of the grades A, B, ...; in another order, A is another one.
        rubric: What is judged.
    """
    listed = "\n".join(f"{letter}: {name}" for letter, name in zip(LETTERS, grades, strict=False))
    said = "\n".join(candidate)
    ask = f"Translation:\n{said}\n\nGrades:\n{listed}\n\nAnswer with the letter of its grade."
    return _question(block, start, stop, rubric, ask)


def read_scores(words: str, count: int) -> list[int]:
    """Return the score of each candidate in a judge's words.

    The last JSON object with an integer for each candidate counts, as judges may repeat the prompt
    or think before they answer. The example of the prompt is no answer, wherever it stands.

    Raises:
        OutOfRangeError: A score is not from 0 to 100.
        TooFewDistinctError: Fewer than 25 percent of the scores are different ones.
        JudgeError: There is no such object.
    """
    objects = [said for said in map(_json_object, re.findall(r"\{[^{}]*\}", words)) if said]
    if not objects:
        raise JudgeError("no JSON object in the answer", words)
    letters = set(LETTERS[:count])
    whole = [
        said
        for said in objects
        if said.keys() == letters and all(type(score) is int for score in said.values())
    ]
    if not whole:
        raise JudgeError(f"not one integer for each of {count} candidates", words)
    own = [said for said in whole if said != EXAMPLE_SCORES]
    if not own:
        raise JudgeError("the example of the prompt, no answer", words)
    numbers = [own[-1][letter] for letter in LETTERS[:count]]
    if not all(0 <= score <= BEST for score in numbers):
        raise OutOfRangeError(f"a score is not from 0 to {BEST}", words)
    if len(set(numbers)) < MIN_DISTINCT * count:
        raise TooFewDistinctError(f"{len(set(numbers))} scores for {count} candidates", words)
    return numbers


def _json_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text in braces is; None if it is none."""
    try:
        said: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):  # ValueError: also of a number of thousands of digits
        return None
    return said


def goes_on(lines: Sequence[str], code: str) -> Messages:
    """Return the messages that ask whether the last one of some lines is of one piece with them."""
    listed = "\n".join(lines[:-1])
    text = (
        f"Lines of a film in {language(code)}:\n{listed}\n\nThe next line:\n{lines[-1]}\n\nIs it "
        f"coherent with the line before it (one thought, or a question and its answer), or does "
        f"something new begin? Answer yes if it is coherent, else no."
    )
    return [("system", "You divide film subtitles into segments."), ("user", text)]
