"""Taking strategy, concept and emotion tags off a reply before its text is scored.

References have no tags, so a tag left in a hypothesis would be scored as words of the reply.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from zoo.support.labels import ACTS, EMOTIONS, SUPPORT

PHRASE = r"[^\W\d_][\w'/+-]*(?: [\w'&/+-]+){0,5}"  # a word, then up to five more
FIELDS = r"(?:(?:support )?strateg(?:y|ies)|emotions?|topics?|concepts?|(?:dialogue )?acts?)"
REPLY = r"(?:response|reply|answer|supporter|assistant)"

PAIRED = re.compile(rf"\s*(?:<\s*{PHRASE}\s*>|</\s*{PHRASE}\s*>)")
TWINS = re.compile(rf"(?:^|(?<=\s))([\^#@&])({PHRASE})\1(?=\s|$)")
OPENING = re.compile(
    rf"^\s*(?:[\[<{{]\s*(?:{FIELDS}\s*:\s*)?{PHRASE}\s*[\]>}}](?!,)|\(\s*{FIELDS}\s*:\s*{PHRASE}\s*\))"
    r"\s*:?\s*",
    re.I,
)
FIELD = re.compile(rf"^\s*[*_]*{FIELDS}[*_]*\s*:[*_]*\s*", re.I)
SPOKEN = re.compile(rf"(?:^|(?<=[\s.;,|]))[*_]*{REPLY}(?: \({PHRASE}\))?[*_]*\s*:[*_]*\s*", re.I)
QUOTES = {'"': '"', "\u201c": "\u201d", "\u201e": "\u201c", "\u00ab": "\u00bb"}
NAMES = (*SUPPORT.names, *SUPPORT.aliases, *ACTS.names, *EMOTIONS)


def strip_tags(text: str, names: Sequence[str] = ()) -> str:
    r"""Return a reply without the tags of strategies, emotions, topics and other concepts.

    Taken off, in any case of letters: a short phrase in square, angle or curly brackets at the
    start, whatever it says (`[Question] ...`); fields before the reply (`Emotion: sadness Strategy:
    Question Response: ...`, `Supporter (Question): ...`); a strategy's name with a colon at the
    start; known names in square or round brackets anywhere; short phrases in angle brackets, or
    between two equal signs of ^ # @ &, anywhere.

    Args:
        text: A model's whole reply.
        names: Further names to take off, for example topics.

    Example:
        >>> strip_tags("[Question] <sadness> How are you?")
        'How are you?'
        >>> strip_tags("Emotion: fear\nStrategy: Question\nResponse: Since when?")
        'Since when?'
    """
    known = sorted({*NAMES, *names}, key=len, reverse=True)
    listed = "|".join(re.escape(name) for name in known)
    inner = re.compile(rf"\s*[\[(]\s*(?:{FIELDS}\s*:\s*)?(?:{listed})\s*[\])]", re.I)
    titled = re.compile(rf"^\s*(?:{'|'.join(map(re.escape, SUPPORT.names))})\s*:\s*", re.I)
    value = re.compile(rf"(?:{listed})(?![\w-])[\s.;,|]*", re.I)
    before = None
    while before != text:
        before = text
        text = _without_fields(titled.sub("", OPENING.sub("", text)), value)
        text = TWINS.sub("", PAIRED.sub(" ", inner.sub(" ", text)))
        text = re.sub(r"^[,:]\s", "", " ".join(text.split(" ")).strip())  # left of a tag
    return re.sub(r" {2,}", " ", text)


def unquoted(text: str) -> str:
    r"""Return a reply without the quotation marks that a model puts around it.

    A mark that opens the reply is taken off with the one that closes it, or alone if the reply was
    cut before that. Quotations inside a reply stay.

    Example:
        >>> unquoted('"I am here."'), unquoted('"I am'), unquoted('"Yes" is what he said.')
        ('I am here.', 'I am', '"Yes" is what he said.')
    """
    closing = QUOTES.get(text[:1])
    if closing is None:
        return text
    inner = text[1:].removesuffix(closing)
    return text if closing in inner or text[0] in inner else inner.strip()


def _without_fields(text: str, value: re.Pattern[str]) -> str:
    """Return what follows the fields that open a text, or the text if none does."""
    opened = FIELD.match(text)
    if opened is None:
        spoken = SPOKEN.match(text)
        return text[spoken.end() :] if spoken else text
    rest = text[opened.end() :]
    spoken = SPOKEN.search(rest)
    if spoken:
        return rest[spoken.end() :]
    named = value.match(rest)
    if named:
        return rest[named.end() :]
    line, newline, after = rest.partition("\n")
    return after if newline else line
