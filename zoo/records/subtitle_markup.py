r"""What a subtitle shows: its text without tags; and another text in its place.

pysubs2 takes every `{...}` for a tag, and `\N`, `\n` and `\h` for breaks and blanks, as ASS has it.

    .srt .vtt   only `{\...}` is a tag (`{\an8}`: at the top), other braces and backslashes are
                text. Stand-ins take their places while pysubs2 has the text: characters that
                Unicode keeps for the inside of programs. Tags so stay as they are written.
    .ass .ssa   braces hold tags and comments. `\{` and `\}` are braces of the text (libass and
                ffmpeg), and so is a backslash that a word joiner follows.

What a format cannot hold is written with round brackets: `{laughs}` in `.ass`, where only some
players know the braces of libass, `<laughs>` and `{\laughs}` in `.srt`; and `-->` there as `->`.
"""

from __future__ import annotations

import re

import pysubs2

SUBRIP = ("srt", "vtt")
_JOINER = "\u2060"
_STAND_INS = str.maketrans("{}\\", "\ufdd0\ufdd1\ufdd2")
_MEANT = str.maketrans("\ufdd0\ufdd1\ufdd2", "{}\\")
_TAG_OR_ESCAPE = re.compile(rf"\{{[^}}]*\}}|\\([{{}}])|(\\){_JOINER}")
_KEPT_TAG = re.compile("\ufdd0\ufdd2[^\ufdd0\ufdd1\n]*\ufdd1")
_STARTING_TAGS = re.compile(rf"(\{{[^}}]*\}}|{_KEPT_TAG.pattern})*")
_LIKE_A_TAG = re.compile(r"\{(\\[^{}]*)\}|<(\s*/?\s*[a-zA-Z][^>]*)>")


def with_stand_ins(text: str) -> str:
    """Return a text of `.srt` or `.vtt` for pysubs2 to read."""
    return text.translate(_STAND_INS)


def without_stand_ins(text: str) -> str:
    """Return what was meant, in a text that pysubs2 has written."""
    return text.translate(_MEANT)


def shown(event: pysubs2.SSAEvent) -> str:
    """Return the text of a subtitle in one line, without tags."""
    text = pysubs2.SSAEvent(text=_TAG_OR_ESCAPE.sub(_escaped, event.text)).plaintext
    return one_line(without_stand_ins(_KEPT_TAG.sub("", text)))


def replace_text(event: pysubs2.SSAEvent, text: str, kind: str) -> None:
    """Write another text into a subtitle; the tags that it begins with (its place) stay.

    Args:
        event: The subtitle.
        text: One line; what the format cannot hold is changed.
        kind: pysubs2's name of the format that will be written.
    """
    tags = _STARTING_TAGS.match(event.text)
    if kind in SUBRIP:
        text = _LIKE_A_TAG.sub(lambda tag: f"({tag[1] or tag[2]})", text).replace("-->", "->")
    else:
        text = text.replace("{", "(").replace("}", ")").replace("\\", f"\\{_JOINER}")
    event.text = (tags[0] if tags else "") + (with_stand_ins(text) if kind in SUBRIP else text)


def one_line(text: str) -> str:
    """Return a text of several lines as one, without blanks around it."""
    return " ".join(text.split())


def _escaped(found: re.Match[str]) -> str:
    return with_stand_ins(found[1] or found[2] or "") or found[0]
