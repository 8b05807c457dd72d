"""Reading what a model wrote where a supporter's reply was asked for.

Small models leave the form that is asked for in many ways: fields inside a line, Markdown, further
turns of the conversation, a form without its names. One reader serves all methods, so that none is
read more kindly than another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from zoo.support.encoder import SPEAKS, TURN, speaker_of
from zoo.support.labels import Labels
from zoo.support.tags import strip_tags, unquoted

NOTE = r"(?: \((?P<{0}note>[^()\n]*)\))?[*_`]*\s*:[*_`]*"
FIELD = re.compile(  # opens a line, in any case; or stands inside one, spelled as it is asked for
    r"^[\s*_`#>\d.)-]*(?i:(?P<opens>emotion|strategy|draft|feedback|simulation|revision|response"
    rf"|reply)){NOTE.format('')}"
    r"|(?<=[\s.;,|!?)\]\"'*`])(?P<inside>Strategy|Draft|Feedback|Simulation|Revision|Response)"
    rf"{NOTE.format('re')}",
    re.M,
)
SAID = ("revision", "response", "reply")
ALONE = ("supporter", "", *SAID)
BRACKET = re.compile(
    r"^[*_`]*(?:\[([^\[\]\n]{1,60})\]|\(([^()\n]{1,60})\))[*_`]*(?:\s*:[*_`]*|(,))?\s*"
)
TITLE = re.compile(r"^[*_`]*([^\W\d_][\w -]{2,40})[*_`]*:[*_`]*\s*")


class Reading(NamedTuple):
    """What a model's words say.

    Attributes:
        reply: The reply, without fields and tags; empty if there is none.
        strategy: Name of its strategy; None if none was named.
        begun: What stands before the reply.
        given: The reply stands where it was asked for.
        emotion: Text of the field `Emotion:`; empty without one.
    """

    reply: str
    strategy: str | None
    begun: str
    given: bool
    emotion: str = ""


class ReplyField(NamedTuple):
    """A field of a model's words and where its text starts and ends.

    Attributes:
        name: Of the field, `supporter`, `seeker`, or empty outside of all fields.
        start: Where its text starts.
        end: Where it ends.
        note: Text in brackets behind the name.
    """

    name: str
    start: int
    end: int
    note: str = ""


def read_reply(words: str, labels: Labels, begins: str = SPEAKS) -> Reading:
    r"""Return the reply that stands in a model's words.

    If a reply alone was asked for, it is what the supporter says first, and names of fields inside
    it are words. Of an answer in fields it is the first `Revision:`, `Response:` or `Reply:` that
    is not empty; without one what the supporter says, what stands outside of all fields, the draft,
    or the simulation. It ends where a speaker's name begins another turn.

    Args:
        words: All that the model wrote: fields, or the reply alone; `[Strategy]` before it, or a
            field of it.
        labels: The strategies.
        begins: What the model's answer was begun with: `Supporter:`, or the first of its fields.

    Example:
        >>> from zoo.support.labels import SUPPORT
        >>> read_reply("fear\nStrategy: Questions\nResponse: Since when?", SUPPORT, "Emotion:")[:2]
        ('Since when?', 'Question')
        >>> read_reply("[Hug] There.\nSeeker: Thanks.", SUPPORT)[:3]
        ('There.', None, ' [Hug] ')
    """
    text, alone = f" {words.lstrip()}", begins == SPEAKS
    parts = _parts(text, labels, begins, alone=alone)
    emotion = next((text[p.start : p.end].strip() for p in parts if p.name == "emotion"), "")
    sought = _sought(parts, alone=alone)
    rest = [part for part in parts if part not in sought and part.name != "seeker"]
    for part in (*sought, *rest):  # of the rest only what has the form: `Emotion: [Question] When?`
        start, strategy = _after_tags(text, part, labels)
        reply = unquoted(strip_tags(text[start : part.end].strip(" \n`")))
        if reply and (part in sought or strategy):
            strategy = strategy or _planned(text, parts, part, labels)
            given = part.name in (ALONE if alone else SAID)
            return Reading(reply, strategy, text[:start], given, emotion)
    nowhere = ReplyField("", len(text), len(text))
    return Reading("", _planned(text, parts, nowhere, labels), text, given=False, emotion=emotion)


def _sought(parts: Sequence[ReplyField], *, alone: bool) -> list[ReplyField]:
    """Return the parts that may be the reply, the likeliest first."""
    order = [ALONE] if alone else [SAID, ("supporter",), ("",)]
    named = [part for names in order for part in parts if part.name in names]
    return named + [p for name in ("draft", "simulation") for p in parts[::-1] if p.name == name]


def _parts(text: str, labels: Labels, begins: str, *, alone: bool) -> list[ReplyField]:
    """Return the parts of a text that are not empty, in order."""
    name, start, note, spoken = begins.rstrip(":").lower(), 0, "", False
    kept: list[ReplyField] = []
    for begin, end, new, new_note in [*_marks(text, labels, alone=alone), (len(text), 0, "", "")]:
        label = name in ("emotion", "strategy")  # ends with its line
        stop = text.find("\n", start, begin) if label else -1
        cut = begin if stop < 0 else stop
        parts = [ReplyField(name, start, cut, note), ReplyField("", cut, begin)]
        parts = [p for p in parts if text[p.start : p.end].strip(" \t\n*_`\"'")]
        words = any(p.name in ALONE and _after_tags(text, p, labels)[0] < p.end for p in parts)
        inside = alone and (spoken or words) and end and new not in ("supporter", "seeker")
        if begin < start or inside:  # of a reply alone, behind its first words
            continue
        kept += parts
        spoken = spoken or words
        name, start, note = new, end, new_note
    return kept


def _marks(text: str, labels: Labels, *, alone: bool) -> list[tuple[int, int, str, str]]:
    """Return (start, end, name, note) of the marks that begin parts, in order.

    In an answer in fields a line that opens with a strategy in brackets begins one without a name.
    """
    marks = [
        (m.start(), m.end(), (m["opens"] or m["inside"]).lower(), m["note"] or m["renote"] or "")
        for m in FIELD.finditer(text)
        if m["opens"] or not alone
    ]
    marks += [(m.start(), m.end(), speaker_of(m), m["note"] or "") for m in TURN.finditer(text)]
    if not alone:
        names = "|".join(map(re.escape, labels.names))
        tags = re.finditer(rf"(?<=\n)[*_`]*(?=\[(?:{names})\])", text, re.I)
        marks += [(m.start(), m.end(), "", "") for m in tags]
    return sorted(marks)


def _after_tags(words: str, part: ReplyField, labels: Labels) -> tuple[int, str | None]:
    """Return where the text of a part starts, and the strategy of the tags or note before it."""
    start, strategy = part.start, labels.find(part.note) if part.note else None
    while True:
        start += len(words[start : part.end]) - len(words[start : part.end].lstrip())
        tag = BRACKET.match(words[start : part.end])
        if tag and (tag[2] or tag[3]) and not labels.known(tag[1] or tag[2]):
            tag = None  # words in round brackets, a name that is greeted
        if tag is None:
            titled = TITLE.match(words[start : part.end])
            name = labels.known(titled[1]) if titled else None
            return start + (titled.end() if titled and name else 0), strategy or name
        strategy = strategy or labels.find(tag[1] or tag[2])
        start += tag.end()


def _planned(
    words: str, parts: Sequence[ReplyField], reply: ReplyField, labels: Labels
) -> str | None:
    """Return the strategy that other parts name: the last before a reply, or the first after it."""
    before = [part for part in parts if part.end <= reply.start]
    for part in before[::-1] + [part for part in parts if part.start >= reply.end]:
        named = words[part.start : part.end] if part.name == "strategy" else ""
        start, tagged = _after_tags(words, part, labels)
        name = labels.find(named) if named else tagged if start >= part.end else None
        if name:
            return name
    return None


def read_points(words: str, limit: int = 3) -> list[str]:
    r"""Return the lines of a list without their numbers and bullets, at most `limit`; at least one.

    Example:
        >>> read_points("1. Ask.\n- Comfort.\n\n3) Wait.\n4. More.")
        ['Ask.', 'Comfort.', 'Wait.']
    """
    rows = [re.sub(r"^\s*(?:\d+[.):]|[-*])\s*", "", row).strip() for row in words.splitlines()]
    return [row for row in rows if row][:limit] or [words.strip()]
