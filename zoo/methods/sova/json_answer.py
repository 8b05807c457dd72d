"""The JSON object in a model's words, read by a real parser."""

from __future__ import annotations

import json
import re
from typing import Any

from zoo.judges.judge import JudgeError

ACTION_NAME = re.compile(
    r"""
    \bactions? [\s\#:_*"'(\[\-\u2013\u2014]* (?:(?:no|nr|number)\b [.:\s\#]*)?   # Action No. 1
        (?: [12]\b
        | (?:one|two)\b (?=\s*(?:$|[^\w\s'\u2019]|['\u2019](?!\w)                # not: one can
            |(?:and|as|because|for|here|if|instead|is|or|over|rather|since|to|when)\b))
        )
    | \bthe\s+(?:first|second|1st|2nd)\s+(?:of\s+the\s+(?:two\s+)?)?actions?\b
    | \bwhat\s+the\s+question\s+asks\b                                          # says `to do`
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""The name of one of the two actions: in an instruction it would give the answer away.

Where ordinary text looks like one (`take action: 2 days`) it counts as one: an instruction too few
is no leak. A pronoun (`the action one can take`) and an owner (`your first action`) make no name.
"""

_DECODER = json.JSONDecoder(strict=False)  # a line break inside a string is none of JSON's sins


def first_object(words: str) -> dict[str, Any]:
    """Return the first whole JSON object in a model's words; what stands around it is left out.

    Quotation marks, backslashes and decimals inside are the parser's: nothing is removed first.

    Raises:
        JudgeError: There is none.
    """
    found: dict[str, Any]  # what begins with a brace is an object
    for start in (hit.start() for hit in re.finditer(r"\{", words)):
        try:
            found, _ = _DECODER.raw_decode(words, start)
        except json.JSONDecodeError:
            continue
        return found
    raise JudgeError("no JSON object in the answer", words)


def text_field(found: dict[str, Any], name: str, words: str) -> str:
    """Return a field's text in one line.

    Raises:
        JudgeError: It is missing, empty or no text.
    """
    value = found.get(name)
    if not isinstance(value, str) or not value.strip():
        raise JudgeError(f"no text {name!r} in the answer", words)
    return " ".join(value.split())


def number_field(found: dict[str, Any], name: str, low: float, high: float, words: str) -> float:
    """Return a field's number, which may be written as text (`"0.92"`).

    Raises:
        JudgeError: It is missing, no number, or not within the limits.
    """
    value = found.get(name)
    try:
        number = float(value) if isinstance(value, int | float | str) else float("nan")
    except ValueError:
        number = float("nan")
    if isinstance(value, bool) or not low <= number <= high:
        raise JudgeError(f"{name!r} is no number from {low:g} to {high:g}: {value!r}", words)
    return number
