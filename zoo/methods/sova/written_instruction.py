"""An instruction and its score in the words of a model that was asked about a report."""

from __future__ import annotations

from collections import Counter

from zoo.judges.judge import JudgeError
from zoo.methods.sova.instruction import Instruction
from zoo.methods.sova.json_answer import first_object, number_field, text_field
from zoo.methods.sova.reports import Report

MAX_INSTRUCTION = 120  # tokens


class ScoreError(JudgeError):
    """An instruction whose score is missing, or no number from 0 to 100."""


def read_instruction(words: str, report: Report, counts: Counter[str]) -> Instruction:
    """Return the first instruction of a model's JSON.

    Args:
        words: What the model said.
        report: What it was asked about; its principles stand behind the instruction.
        counts: `more than one` is added where the first of several is taken.

    Raises:
        ScoreError: There is an instruction with no score from 0 to 100.
        JudgeError: There is no JSON or no instruction, or it is a question.
    """
    listed = first_object(words).get("Instructions")
    if not isinstance(listed, list) or not listed or not isinstance(listed[0], dict):
        raise JudgeError("no instruction in the answer", words)
    counts["more than one"] += len(listed) > 1
    text = text_field(listed[0], "Instruction", words)
    try:
        score = number_field(listed[0], "score", 0, 100, words)
    except JudgeError as error:
        raise ScoreError(str(error), words) from error
    if text.endswith("?"):
        raise JudgeError("a question instead of an instruction", words)
    return Instruction(text, score, report.id, report.principle_ids, written=True)
